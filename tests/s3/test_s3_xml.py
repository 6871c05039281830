"""XML in is bounded and plain; XML out is escaped."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.s3.xml_read import Element, parse
from predastore.s3.xml_write import NAMESPACE, document, escape, optional, owner, tag


def read(data: bytes, root: str = "Delete") -> Element:
    return asyncio.run(parse(data, root))


def test_a_document_with_and_without_namespace() -> None:
    for attribute in ("", f' xmlns="{NAMESPACE}"'):
        found = read(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Delete{attribute}>\n <Object>'
            "<Key>a&lt;b &#x41;</Key></Object><Object><Key/></Object></Delete>".encode()
        )
        assert [child.name for child in found.children] == ["Object", "Object"]
        assert found.children[0].only("Key") == {"Key": "a<b A"}
        assert found.children[1].only("Key") == {"Key": ""}


BOMB = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<Delete><Object><Key>&b;</Key></Object></Delete>"""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no xml",
        b"<Delete>",
        b"<Delete></delete>",
        b"<Other/>",
        b"<Delete/><Delete/>",
        b'<Delete xmlns="urn:else"/>',
        b"<Delete>&undefined;</Delete>",
        b"<Delete>text<Object/></Delete>",
        b"<!DOCTYPE Delete><Delete/>",
        b"<Delete><?php echo 1 ?></Delete>",
        b'<?xml version="1.0" encoding="nonsense"?><Delete/>',
        b"<Delete>\xff</Delete>",
        b"<Delete><Key>\x01</Key></Delete>",
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete/>',
        BOMB,
        b"<Delete>" + b"<a>" * limits.S3_XML_DEPTH_MAX,
        b"<Delete><Object/>text</Delete>",
        b"<Delete><Object/> <Object/>text<Object/></Delete>",
    ],
)
def test_what_is_not_plain_xml_is_refused(data: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        read(data)
    assert caught.value.s3_code == "MalformedXML"


@pytest.mark.parametrize("attribute", [b"", b" a%d=''", b" xmlns:a%d='b'"])
def test_elements_and_attributes_are_counted(attribute: bytes) -> None:
    count = 15 if attribute else 0
    attributes = b"".join(attribute % n for n in range(count))
    most = limits.S3_XML_ELEMENTS_MAX // (1 + count) - 1
    piece = b"<a" + attributes + b"/>"
    assert len(read(b"<Delete>" + piece * most + b"</Delete>").children) == most
    with pytest.raises(S3Error):
        read(b"<Delete>" + piece * (most + 1) + b"</Delete>")


def test_the_largest_lists_that_s3_allows_are_read() -> None:
    part = (
        b"<Part><PartNumber>10000</PartNumber><ETag>&quot;0123456789abcdef0123456789abcdef&quot;"
        b"</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32><ChecksumSHA256>%b=</ChecksumSHA256></Part>"
    ) % (b"A" * 43)
    parts = read(b"<Complete>\n" + part * limits.S3_PARTS_MAX + b"</Complete>", "Complete")
    assert len(parts.children) == limits.S3_PARTS_MAX
    one = (
        b"<Object><Key>k</Key><VersionId>null</VersionId><ETag>e</ETag><Size>1</Size>"
        b"<LastModifiedTime>t</LastModifiedTime></Object>\n"
    )
    assert len(read(b"<Delete>" + one * limits.S3_PAGE_MAX + b"</Delete>").children) == 1000


def test_what_is_held_until_its_end_is_bounded() -> None:
    for data in (b"<Delete><!--" + b"x" * (1 << 20), b"<Delete a='" + b"x" * (1 << 20)):
        with pytest.raises(S3Error):
            read(data + b"--></Delete>")
    comment = b"<!--" + b"x" * (limits.S3_XML_TOKEN_BYTES_MAX // 2) + b"-->"
    text = b"x" * (1 << 20)
    assert read(b"<Delete>" + comment * 8 + text + b"</Delete>").text == text.decode()


@pytest.mark.parametrize(
    "inner", [b"<Key>a</Key><Key>b</Key>", b"<Key>a</Key><Other/>", b"<Key><b>x</b></Key>"]
)
def test_only_refuses_repeated_unknown_and_nested_children(inner: bytes) -> None:
    found = read(b"<Delete>" + inner + b"</Delete>")
    with pytest.raises(S3Error):
        found.only("Key")


def test_a_large_document_lets_the_loop_turn() -> None:
    data = b"<Delete>" + b"<Object><Key>k</Key></Object>" * 20_000 + b"</Delete>"
    turns = 0

    async def main() -> Element:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(parse(data, "Delete"))

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not task.done():
                loop.call_soon(turn)

        loop.call_soon(turn)
        return await task

    assert len(asyncio.run(main()).children) == 20_000
    assert turns >= len(data) // limits.S3_XML_SLICE_BYTES


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")))
def test_escaped_text_reads_back(text: str) -> None:
    read_back = ET.fromstring(f"<a>{escape(text)}</a>").text or ""
    assert read_back == text


def test_what_xml_can_not_hold_is_replaced() -> None:
    assert escape('a\x01\r\x1f\uffff<&>"\n\t') == (
        "a\ufffd&#xd;\ufffd\ufffd&lt;&amp;&gt;&quot;\n\t"
    )


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_whatever_is_escaped_can_be_read(text: str) -> None:
    read_back = ET.fromstring(f"<a>{escape(text)}</a>").text or ""
    assert len(read_back) == len(text)


def test_pieces() -> None:
    assert tag("A", True) + tag("B", False) + tag("C", 1) == "<A>true</A><B>false</B><C>1</C>"
    assert optional("A", None) == ""
    assert owner("1<2") == "<Owner><ID>1&lt;2</ID><DisplayName>1&lt;2</DisplayName></Owner>"
    assert ET.fromstring(document("Root", [tag("A", "é")])).tag == f"{{{NAMESPACE}}}Root"
