// Hadoop's S3A: files written in parts, folders, renames, seeks, and deletes.

import java.io.InputStream;
import java.io.OutputStream;
import java.net.URI;
import java.util.Arrays;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;

public class UseS3A {
    public static void main(String[] args) throws Exception {
        Configuration settings = new Configuration();
        settings.set("fs.s3a.endpoint", System.getenv("ENDPOINT"));
        settings.set("fs.s3a.endpoint.region", "us-east-1");
        settings.set("fs.s3a.path.style.access", "true");
        settings.set("fs.s3a.access.key", System.getenv("AWS_ACCESS_KEY_ID"));
        settings.set("fs.s3a.secret.key", System.getenv("AWS_SECRET_ACCESS_KEY"));
        settings.set("fs.s3a.multipart.size", "5M");
        settings.set("fs.s3a.multipart.threshold", "5M");
        try (FileSystem s3 = FileSystem.get(new URI("s3a://hadoop/"), settings)) {
            use(s3);
        }
        System.out.println("done");
    }

    private static void use(FileSystem s3) throws Exception {
        Path folder = new Path("/a folder/\u00fc");
        Path file = new Path(folder, "file");
        Path moved = new Path("/moved");
        byte[] data = new byte[12 << 20];
        for (int i = 0; i < data.length; i++) {
            data[i] = (byte) (i * 31 + (i >> 8));
        }
        check(s3.mkdirs(folder), "mkdirs");
        try (OutputStream out = s3.create(file)) {
            out.write(data);
        }
        try (OutputStream out = s3.create(new Path(folder, "small"))) {
            out.write(7);
        }
        try (InputStream in = s3.open(file)) {
            check(Arrays.equals(in.readAllBytes(), data), "read");
        }
        check(s3.getFileStatus(file).getLen() == data.length, "length");
        check(s3.listStatus(folder).length == 2, "list");
        check(s3.rename(folder, moved), "rename");
        check(!s3.exists(file) && s3.exists(new Path(moved, "small")), "renamed");
        try (FSDataInputStream in = s3.open(new Path(moved, "file"))) {
            byte[] part = new byte[1000];
            in.readFully(6 << 20, part);
            check(Arrays.equals(part, Arrays.copyOfRange(data, 6 << 20, (6 << 20) + 1000)), "seek");
        }
        check(s3.delete(moved, true) && !s3.exists(moved), "delete");
        check(s3.delete(new Path("/a folder"), true), "delete the parent");
        check(s3.listStatus(new Path("/")).length == 0, "empty");
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
