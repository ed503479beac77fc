"""Does something with a bucket by boto3, and prints what it finds as JSON.

    look.py ENDPOINT make BUCKET
    look.py ENDPOINT list BUCKET            keys, with what each object says of itself
    look.py ENDPOINT read BUCKET KEY FILE   an object's bytes, to a file
    look.py ENDPOINT remove BUCKET KEY
    look.py ENDPOINT parts BUCKET           how many uploads by parts are under way
"""
import json
import sys

import boto3
from botocore.exceptions import ClientError


def main() -> None:
    endpoint, what, bucket, *rest = sys.argv[1:]
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                      aws_access_key_id="test", aws_secret_access_key="test")
    if what == "make":
        s3.create_bucket(Bucket=bucket)
    elif what == "list":
        found = {}
        for each in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            try:
                head = s3.head_object(Bucket=bucket, Key=each["Key"])
            except ClientError as error:
                # It has gone since it was listed.
                if error.response["Error"]["Code"] == "404":
                    continue
                raise
            found[each["Key"]] = {"bytes": head["ContentLength"], "type": head["ContentType"],
                                  "metadata": head["Metadata"]}
        print(json.dumps(found))
    elif what == "read":
        s3.download_file(bucket, *rest)
    elif what == "remove":
        s3.delete_object(Bucket=bucket, Key=rest[0])
    elif what == "parts":
        print(len(s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])))


main()
