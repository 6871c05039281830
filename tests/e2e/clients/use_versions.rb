# aws-sdk-ruby: versions, delete markers, a lock, tags; a bucket that is cleared with all it has.
require "aws-sdk-s3"

def check(holds, what)
  raise what unless holds
end

s3 = Aws::S3::Resource.new(endpoint: ENV["ENDPOINT"], force_path_style: true,
                           ssl_ca_bundle: ENV["AWS_CA_BUNDLE"])
bucket = s3.create_bucket(bucket: ARGV[0], object_lock_enabled_for_bucket: true)
check(bucket.versioning.status == "Enabled", "versions")

object = bucket.object("a folder/\u00fc")
first = object.put(body: "first").version_id
object.put(body: "second", tagging: "n=2")
check(object.get.body.read == "second", "current")
check(object.get(version_id: first).body.read == "first", "by id")
check(object.version(first).head.content_length == 5, "of a version")
tags = bucket.client.get_object_tagging(bucket: bucket.name, key: object.key).tag_set
check(tags.map { |tag| [tag.key, tag.value] } == [["n", "2"]], "tags")

kept = bucket.object("kept").put(body: "kept", object_lock_mode: "GOVERNANCE",
                                 object_lock_retain_until_date: Time.now + 3600).version_id
begin
  bucket.object("kept").version(kept).delete
  raise "a version that is kept is gone"
rescue Aws::S3::Errors::AccessDenied => refusal
  check(refusal.message.include?("object lock"), refusal.message)
end
bucket.object("kept").version(kept).delete(bypass_governance_retention: true)

object.delete
check(!object.exists?, "deleted")
300.times { |n| bucket.object("many/#{n % 100}").put(body: n.to_s) }
bucket.objects(prefix: "many/5").batch_delete!
check(bucket.object_versions(prefix: "many/5").count == 44, "markers over what was deleted")
bucket.object_versions(prefix: "many/").batch_delete!
check(bucket.object_versions.count == 3, "the others stay")
bucket.clear!
check(bucket.object_versions.count == 0, "cleared")
bucket.delete
check(!bucket.exists?, "gone")
puts "done"
