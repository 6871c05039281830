// The AWS SDK for Java: versions, delete markers, a lock, tags, attributes, all deleted by pages.

import java.net.URI;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.stream.Stream;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.BucketVersioningStatus;
import software.amazon.awssdk.services.s3.model.ListObjectVersionsResponse;
import software.amazon.awssdk.services.s3.model.ObjectAttributes;
import software.amazon.awssdk.services.s3.model.ObjectIdentifier;
import software.amazon.awssdk.services.s3.model.ObjectLockRetentionMode;
import software.amazon.awssdk.services.s3.model.S3Exception;
import software.amazon.awssdk.services.s3.model.Tag;

public class UseVersions {
    public static void main(String[] arguments) {
        try (S3Client s3 = S3Client.builder()
                .endpointOverride(URI.create(System.getenv("ENDPOINT")))
                .region(Region.US_EAST_1)
                .forcePathStyle(true)
                .build()) {
            use(s3, arguments[0]);
        }
        System.out.println("done");
    }

    private static void use(S3Client s3, String bucket) {
        s3.createBucket(b -> b.bucket(bucket).objectLockEnabledForBucket(true));
        check(s3.getBucketVersioning(b -> b.bucket(bucket)).status() == BucketVersioningStatus.ENABLED, "versions");
        String first = put(s3, bucket, "a folder/\u00fc", "first");
        String second = put(s3, bucket, "a folder/\u00fc", "second");
        check(read(s3, bucket, "a folder/\u00fc", first).equals("first"), "by id");
        check(read(s3, bucket, "a folder/\u00fc", null).equals("second"), "current");
        s3.putObjectTagging(b -> b.bucket(bucket).key("a folder/\u00fc").versionId(first)
                .tagging(t -> t.tagSet(Tag.builder().key("n").value("1").build())));
        check(s3.getObjectTagging(b -> b.bucket(bucket).key("a folder/\u00fc").versionId(first)).tagSet().size() == 1
                && s3.getObjectTagging(b -> b.bucket(bucket).key("a folder/\u00fc")).tagSet().isEmpty(), "tags");
        check(s3.getObjectAttributes(b -> b.bucket(bucket).key("a folder/\u00fc").versionId(second)
                .objectAttributes(ObjectAttributes.OBJECT_SIZE)).objectSize() == 6, "attributes");
        s3.copyObject(b -> b.sourceBucket(bucket).sourceKey("a folder/\u00fc").sourceVersionId(first)
                .destinationBucket(bucket).destinationKey("a folder/\u00fc"));
        check(read(s3, bucket, "a folder/\u00fc", null).equals("first"), "put back");

        Instant until = Instant.now().plus(1, ChronoUnit.HOURS).truncatedTo(ChronoUnit.MILLIS);
        s3.putObjectRetention(b -> b.bucket(bucket).key("a folder/\u00fc").versionId(first)
                .retention(r -> r.mode(ObjectLockRetentionMode.GOVERNANCE).retainUntilDate(until)));
        check(s3.getObjectRetention(b -> b.bucket(bucket).key("a folder/\u00fc").versionId(first))
                .retention().retainUntilDate().equals(until), "retention");
        try {
            s3.deleteObject(b -> b.bucket(bucket).key("a folder/\u00fc").versionId(first));
            throw new AssertionError("a version that is kept is gone");
        } catch (S3Exception refusal) {
            check(refusal.statusCode() == 403, refusal.getMessage());
        }

        s3.deleteObject(b -> b.bucket(bucket).key("a folder/\u00fc"));
        check(s3.listObjectsV2(b -> b.bucket(bucket)).contents().isEmpty(), "deleted");
        for (int n = 0; n < 5; n++) {
            put(s3, bucket, "more/" + n, "x");
        }
        int found = 0;
        for (ListObjectVersionsResponse page : s3.listObjectVersionsPaginator(b -> b.bucket(bucket).maxKeys(3))) {
            List<ObjectIdentifier> doomed = Stream.concat(
                    page.versions().stream().map(one -> identifier(one.key(), one.versionId())),
                    page.deleteMarkers().stream().map(one -> identifier(one.key(), one.versionId()))).toList();
            found += doomed.size();
            check(s3.deleteObjects(b -> b.bucket(bucket).bypassGovernanceRetention(true)
                    .delete(d -> d.objects(doomed))).errors().isEmpty(), "delete");
        }
        check(found == 9, "pages");
        s3.deleteBucket(b -> b.bucket(bucket));
    }

    private static ObjectIdentifier identifier(String key, String versionId) {
        return ObjectIdentifier.builder().key(key).versionId(versionId).build();
    }

    private static String put(S3Client s3, String bucket, String key, String body) {
        return s3.putObject(b -> b.bucket(bucket).key(key), RequestBody.fromString(body)).versionId();
    }

    private static String read(S3Client s3, String bucket, String key, String versionId) {
        return s3.getObjectAsBytes(b -> b.bucket(bucket).key(key).versionId(versionId)).asUtf8String();
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
