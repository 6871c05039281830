"""Prints completion for a shell (bash, zsh or fish), made from the tables of flags and commands."""

import sys
from collections.abc import Callable

from predastore.base import config
from predastore.process import commands, flags

# What the value of a flag is; of the others nothing is known.
FILES = ("config", "tls-cert", "tls-key")
FOLDERS = ("base-path",)
WORDS = {"backend": config.BACKENDS, "log-level": config.LOG_LEVELS}


def bash() -> str:
    names = " ".join(f"-{flag.name}" for flag in flags.FLAGS)
    cases = [
        f"        {'|'.join(f'-{one}|--{one}' for one in FILES)})",
        '            COMPREPLY=($(compgen -f -- "$word")); return ;;',
        f"        {'|'.join(f'-{one}|--{one}' for one in FOLDERS)})",
        '            COMPREPLY=($(compgen -d -- "$word")); return ;;',
    ]
    for name, words in WORDS.items():
        cases.append(f"        -{name}|--{name})")
        cases.append(
            f'            COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word")); return ;;'
        )
    for flag in flags.FLAGS:
        if flag.metavar and flag.name not in (*FILES, *FOLDERS, *WORDS):
            cases.append(f"        -{flag.name}|--{flag.name}) return ;;")
    verbs = " ".join(command.name for command in commands.COMMANDS)
    below = [
        f'            {name}) COMPREPLY=($(compgen -W "{" ".join(one.name for one in rows)}" '
        '-- "$word")); return ;;'
        for name, rows in commands.OPERATIONS.items()
    ]
    return "\n".join(
        [
            "# bash completion for s3d",
            "_s3d() {",
            '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            "    COMPREPLY=()",
            '    case "$before" in',
            *cases,
            '        check-config|backup|restore) COMPREPLY=($(compgen -f -- "$word")); return ;;',
            "    esac",
            '    if [[ "$word" == -* ]]; then',
            f'        COMPREPLY=($(compgen -W "{names} -help -version" -- "$word"))',
            "    elif [[ $COMP_CWORD -eq 1 ]]; then",
            f'        COMPREPLY=($(compgen -W "{verbs}" -- "$word"))',
            "    elif [[ $COMP_CWORD -eq 2 ]]; then",
            '        case "$before" in',
            *below,
            "        esac",
            "    fi",
            "}",
            "complete -o filenames -F _s3d s3d",
            "",
        ]
    )


def zsh() -> str:
    def action(flag: flags.Flag) -> str:
        if flag.name in FILES:
            return f":{flag.metavar}:_files"
        if flag.name in FOLDERS:
            return f":{flag.metavar}:_files -/"
        if flag.name in WORDS:
            return f":{flag.metavar}:({' '.join(WORDS[flag.name])})"
        return f":{flag.metavar}: " if flag.metavar else ""

    def plain(text: str) -> str:
        return text.replace("'", "").replace("[", "(").replace("]", ")").replace(":", "\\:")

    rows = [f"    '-{flag.name}[{plain(flag.help)}]{action(flag)}'" for flag in flags.FLAGS]
    verbs = [f"    '{one.name}:{plain(one.help)}'" for one in commands.COMMANDS]
    below = []
    for name, operations in commands.OPERATIONS.items():
        listed = " ".join(f"'{one.name}:{plain(one.help)}'" for one in operations)
        below.append(f"        {name}) below=({listed}) ;;")
    return "\n".join(
        [
            "#compdef s3d",
            "local -a flags verbs below",
            *(
                "flags=(",
                *rows,
                "    '-help[show the flags]'",
                "    '-version[show the version]'",
                ")",
            ),
            *("verbs=(", *verbs, ")"),
            "if [[ $CURRENT -eq 3 ]]; then",
            *("    case ${words[2]} in", *below, "    esac"),
            "fi",
            "if (( $#below )); then",
            '    _describe "command of ${words[2]}" below',
            "elif [[ $CURRENT -eq 2 && ${words[2]} != -* ]]; then",
            "    _describe 'command' verbs",
            "else",
            "    _arguments $flags '*:file:_files'",
            "fi",
            "",
        ]
    )


def fish() -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = ["# fish completion for s3d", "complete -c s3d -f"]
    for flag in flags.FLAGS:
        line = f"complete -c s3d -o {flag.name} -l {flag.name} -d {quoted(flag.help)}"
        if flag.name in FILES:
            line += " -r -F"
        elif flag.name in FOLDERS:
            line += " -x -a '(__fish_complete_directories)'"
        elif flag.name in WORDS:
            line += f" -x -a '{' '.join(WORDS[flag.name])}'"
        elif flag.metavar:
            line += " -x"
        lines.append(line)
    for verb in commands.COMMANDS:
        lines.append(
            f"complete -c s3d -n __fish_use_subcommand -a {verb.name} -d {quoted(verb.help)}"
        )
    for name, rows in commands.OPERATIONS.items():
        condition = quoted(f"__fish_seen_subcommand_from {name}")
        for row in rows:
            lines.append(f"complete -c s3d -n {condition} -a {row.name} -d {quoted(row.help)}")
    files = quoted("__fish_seen_subcommand_from check-config backup restore")
    lines.append(f"complete -c s3d -n {files} -F")
    return "\n".join(lines) + "\n"


SHELLS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}

if __name__ == "__main__":
    sys.stdout.write(SHELLS[sys.argv[1]]())
