"""Images in a bucket of a real S3 server."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from fakes import CountingBackbone
from featstore.errors import ExtractionError, ImageError, SourceError, SourceUnavailableError
from featstore.images import find_images, open_source, view_sheet
from featstore_cli.main import main
from object_server import Server
from pictures import write_picture

PREFIX = "s3://photos/flowers"


def extract(store, source=PREFIX, **options):
    return featstore.extract(source, store, backbone=CountingBackbone(), **options)


def test_objects_give_the_rows_of_the_same_files(s3, photos, tmp_path):
    local = extract(tmp_path / "local.fstore", photos)
    report = extract(tmp_path / "far.fstore")
    assert report.failures == local.failures
    assert (report.images, report.extracted, report.ignored, report.catalog) == (13, 12, 1, "flowers")
    assert s3.count("GET") == 1 + 13
    near, far = (featstore.FeatureStore(one.store).table() for one in (local, report))
    assert far.paths.tolist() == [f"{PREFIX}/{path[len(str(photos)) + 1 :]}" for path in near.paths.tolist()]
    assert far.y.tolist() == near.y.tolist()
    np.testing.assert_array_equal(far.X, near.X)
    assert far.content_hash_bytes.tolist() == near.content_hash_bytes.tolist()


def test_unchanged_objects_cost_one_listing(s3, tmp_path):
    store = tmp_path / "flowers.fstore"
    first = extract(store)
    s3.requests.clear()
    again = extract(store, f"{PREFIX}/")
    assert (again.reused, again.read, again.failures) == (12, 0, first.failures)
    assert [method for method, path in s3.requests] == ["GET"]
    assert "list-type=2" in s3.requests[0][1]


def test_of_changed_objects_only_these_are_read(s3, tmp_path):
    store = tmp_path / "flowers.fstore"
    extract(store)
    write_picture(tmp_path / "new.png", 99)
    # Of the same size, so that the ETag tells.
    s3.bucket.put("flowers/daisy/0.png", (tmp_path / "new.png").read_bytes())
    s3.bucket.put("flowers/daisy/1.png", s3.bucket.get("flowers/daisy/1.png").bytes())
    s3.bucket.delete("flowers/roses/0.png")
    again = extract(store)
    assert (again.extracted, again.read, again.reused) == (1, 1, 10)
    assert again.gone == ("roses/0.png",)


def test_a_listing_follows_the_rules_of_folders(s3, photos):
    picture = (photos / "daisy/0.png").read_bytes()
    for key in (
        "train/a/1.png",
        "train/a/b/2.png",
        "valid/c/3.png",
        "train/a/odd name #?+ü.png",
        "train/a/photo",
    ):
        s3.bucket.put(f"set/{key}", picture)
    for key in (
        ".cache/x.png",
        "train/.hidden.png",
        "train/._x.png",
        "@eaDir/x.png",
        "train/a/x.fstore/y.png",
    ):
        s3.bucket.put(f"set/{key}", picture)
    s3.bucket.put("set/train/a/x.fstore/featstore.json", b"{}")
    s3.bucket.put("set/train/a/LICENSE", b"no image at all")
    s3.bucket.put("settled/other.png", picture)
    source = open_source("s3://photos/set")
    assert [(record.path, record.label, record.split) for record in source.records] == [
        ("train/a/1.png", "a", "train"),
        ("train/a/b/2.png", "a", "train"),
        ("train/a/odd name #?+ü.png", "a", "train"),
        ("train/a/photo", "a", "train"),
        ("valid/c/3.png", "c", "validation"),
    ]
    assert source.skipped == {"._*": 1, ".cache": 1, "@eaDir": 1, "hidden images": 1, "x.fstore": 1}
    assert source.ignored_endings == {"": 1}


def test_a_folder_that_a_console_made_is_a_class_without_images(s3, photos):
    s3.bucket.put("set/a/1.png", (photos / "daisy/0.png").read_bytes())
    assert s3.ask("PUT", "/photos/set/empty/", b"") == 200
    assert open_source("s3://photos/set").empty_folders == ["empty"]


def test_a_whole_bucket_is_a_source(s3):
    source = open_source("s3://photos")
    assert (source.name, source.root, source.records[0].path) == (
        "photos",
        "s3://photos",
        "flowers/daisy/0.png",
    )
    assert source.records[0].label == "flowers"


def test_an_object_that_vanished_after_the_listing_is_a_listed_failure(s3, tmp_path):
    def fault(handler):
        if handler.path.startswith("/photos/flowers/daisy/2.png"):
            handler.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return True
        return False

    s3.fault = fault
    report = extract(tmp_path / "flowers.fstore")
    assert ("daisy/2.png", "no such object") in report.failures
    s3.fault = None
    again = extract(tmp_path / "flowers.fstore")
    assert (again.extracted, again.read) == (1, 1)


def test_what_changed_between_listing_and_reading_is_read_again(s3, tmp_path):
    write_picture(tmp_path / "new.png", 99)
    new = (tmp_path / "new.png").read_bytes()

    def fault(handler):
        if handler.path.startswith("/photos/flowers/daisy/2.png"):
            handler.reply(200, new, {"ETag": '"another"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})
            return True
        return False

    s3.fault = fault
    assert extract(tmp_path / "flowers.fstore").extracted == 12
    s3.fault = None
    again = extract(tmp_path / "flowers.fstore")
    assert (again.extracted, again.read) == (1, 1)


def test_shards_of_a_prefix_are_collected(s3, tmp_path):
    whole = extract(tmp_path / "whole.fstore")
    store = tmp_path / "parts.fstore"
    for number in (1, 2):
        extract(store, shard=(number, 2))
    s3.requests.clear()
    report = featstore.collect(store, PREFIX)
    assert (report.reused, report.lacking, report.failures) == (12, {}, whole.failures)
    assert len(s3.requests) == 1
    assert extract(store).read == 0


def test_batches_of_a_pipeline_name_objects(s3, tmp_path):
    store = tmp_path / "flowers.fstore"
    extractor = featstore.ShardExtractor(PREFIX, store, catalog="flowers", backbone=CountingBackbone())
    results = extractor(["daisy/0.png", "daisy/none.png", f"{PREFIX}/roses/1.png"])
    assert [result["reason"] for result in results] == ["", "no such object", ""]
    assert featstore.collect(store, PREFIX, catalog="flowers").lacking


def test_a_list_may_name_objects_and_files(s3, photos, tmp_path):
    path = tmp_path / "list.csv"
    rows = [
        f"{PREFIX}/daisy/0.png,a",
        f"{photos}/roses/1.png,b",
        f" {PREFIX}/none.png ,a",
        f"{PREFIX}/roses/2.png,b",
    ]
    path.write_text("path,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    report = extract(tmp_path / "list.fstore", path)
    assert report.failures == ((f"{PREFIX}/none.png", "no such object"),)
    assert report.extracted == 3
    assert (s3.count("HEAD"), s3.count("GET")) == (3, 2)
    table = featstore.FeatureStore(report.store).table()
    assert sorted(table.paths.tolist()) == sorted(
        [f"{photos}/roses/1.png", f"{PREFIX}/daisy/0.png", f"{PREFIX}/roses/2.png"]
    )
    s3.requests.clear()
    assert extract(tmp_path / "list.fstore", path).read == 0
    assert s3.count("GET") == 0


def test_a_list_in_memory_may_name_objects(s3, tmp_path):
    report = extract(tmp_path / "some.fstore", [f"{PREFIX}/daisy/0.png", f"{PREFIX}/none.png"])
    assert (report.extracted, report.failures) == (1, ((f"{PREFIX}/none.png", "no such object"),))


def test_a_catalog_of_a_bucket_is_not_taken_by_another_source(s3, photos, tmp_path):
    extract(tmp_path / "flowers.fstore", catalog="both")
    with pytest.raises(SourceError, match="describes s3://photos/flowers, not"):
        extract(tmp_path / "flowers.fstore", photos, catalog="both")


def test_lists_of_splits_fit_a_prefix(s3, tmp_path):
    (tmp_path / "train.txt").write_text("daisy/0\nroses/1.png\n", encoding="utf-8")
    report = extract(tmp_path / "flowers.fstore", train_list=tmp_path / "train.txt")
    assert report.given_splits["train"] == 2


def test_single_objects_are_predicted_and_drawn(s3, photos, tmp_path):
    report = extract(tmp_path / "flowers.fstore")
    head = featstore.fit(featstore.FeatureStore(report.store).table(), head="ridge", min_images=1)
    predictor = featstore.Predictor(head, backbone=CountingBackbone())
    far = list(predictor.stream([f"{PREFIX}/daisy/0.png", f"{PREFIX}/none.png", photos / "roses/1.png"]))
    assert far[0].top == predictor.predict(photos / "daisy/0.png").top
    assert far[1].reason == "no such object"
    assert far[2].label is not None
    assert find_images(PREFIX).paths[0] == f"{PREFIX}/daisy/0.png"
    assert find_images(f"{PREFIX}/daisy/0.png").paths == [f"{PREFIX}/daisy/0.png"]
    recipe = featstore.ViewRecipe(flip=True, random_crop=10)
    sheet = view_sheet(f"{PREFIX}/daisy/0.png", recipe, n_views=4, size_px=(16, 16))
    assert (
        sheet.tobytes() == view_sheet(photos / "daisy/0.png", recipe, n_views=4, size_px=(16, 16)).tobytes()
    )
    with pytest.raises(ImageError, match="no such object"):
        view_sheet(f"{PREFIX}/none.png", recipe)


def test_the_command_line_names_urls_as_they_are(s3, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(main, ["extract", PREFIX, "--backbone", "scattering", "--quiet", "--json"])
    report = json.loads(run.stdout)
    assert (report["extracted"], report["catalog"]) == (12, "flowers")
    assert report["store"] == str(tmp_path / "flowers.fstore")
    run = CliRunner().invoke(main, ["duplicates", "flowers.fstore", "--json"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(main, ["suspects", "flowers.fstore", "--folds", "2", "--json"])
    assert run.exit_code == 0, run.output
    suspects = json.loads(run.stdout)["suspects"]
    assert suspects
    assert all(one["path"].startswith(PREFIX) and one["exists"] for one in suspects)
    run = CliRunner().invoke(main, ["suspects", "flowers.fstore", "--folds", "2"])
    assert f" {PREFIX}/" in run.output
    out = ["--out", "sheet.png", "--flip", "--json"]
    run = CliRunner().invoke(main, ["views", f"{PREFIX}/daisy/0.png", *out])
    assert json.loads(run.stdout)["image"] == f"{PREFIX}/daisy/0.png"


def make_public(server):
    what = {"Action": "s3:*", "Resource": ["arn:aws:s3:::photos/*", "arn:aws:s3:::photos"]}
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", **what}]}
    server.ask("PUT", "/photos?policy", json.dumps(policy))


def test_google_cloud_storage_has_the_same_interface(s3, tmp_path, monkeypatch):
    make_public(s3)
    for name, value in {"BASE_URL": s3.url, "SKIP_SIGNATURE": "true", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"GOOGLE_{name}", value)
    assert extract(tmp_path / "x.fstore", "gs://photos/flowers").extracted == 12
    assert extract(tmp_path / "x.fstore", "gs://photos/flowers").read == 0


AZURE_LIST = """<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="photos"><Blobs>
<Blob><Name>flowers/daisy/0.png</Name><Properties><Last-Modified>Mon, 01 Jan 2024 00:00:00 GMT</Last-Modified>
<Etag>0x1D</Etag><Content-Length>{size}</Content-Length><Content-Type>image/png</Content-Type>
<BlobType>BlockBlob</BlobType></Properties></Blob></Blobs><NextMarker/></EnumerationResults>"""


def test_azure_has_containers(photos, tmp_path, monkeypatch):
    picture = (photos / "daisy/0.png").read_bytes()

    def answer(handler):
        if "comp=list" in handler.path:
            handler.reply(200, AZURE_LIST.format(size=len(picture)).encode())
        else:
            # With the quotes that the listing has not.
            handler.reply(200, picture, {"ETag": '"0x1D"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})

    server = Server(answer).start()
    account = {"STORAGE_ACCOUNT_NAME": "someone", "STORAGE_ENDPOINT": server.url}
    for name, value in {**account, "SKIP_SIGNATURE": "true", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AZURE_{name}", value)
    assert extract(tmp_path / "x.fstore", "az://photos/flowers").extracted == 1
    assert extract(tmp_path / "x.fstore", "az://photos/flowers").read == 0
    assert server.requests[1][1].startswith("/photos/flowers/daisy/0.png")
    server.close()


class TestRefusals:
    def stopped(self, tmp_path, source=PREFIX, kind=SourceUnavailableError):
        with pytest.raises(kind) as caught:
            extract(tmp_path / "x.fstore", source)
        for secret in ("AKIAEXAMPLE", "very-secret"):
            assert secret not in str(caught.value)
        assert caught.value.__cause__ is None
        return str(caught.value)

    def test_no_such_bucket(self, s3, tmp_path):
        assert "s3://nowhere cannot be used: there is no such bucket" in self.stopped(
            tmp_path, "s3://nowhere/x"
        )

    def test_nothing_below_the_prefix(self, s3, tmp_path):
        assert "no image in 's3://photos/flow'" in self.stopped(tmp_path, "s3://photos/flow", SourceError)

    def test_a_single_image(self, s3, tmp_path):
        source = f"{PREFIX}/daisy/0.png"
        assert "is a single image" in self.stopped(tmp_path, source, SourceError)

    def test_a_list_in_the_bucket(self, tmp_path):
        assert "download it" in self.stopped(tmp_path, f"{PREFIX}/list.csv", SourceError)
        assert "download it" in self.stopped(tmp_path, [f"{PREFIX}/a.tar", f"{PREFIX}/b.tar"], SourceError)

    def test_two_prefixes(self):
        run = CliRunner().invoke(main, ["extract", PREFIX, "s3://photos/others"])
        assert run.exit_code == 2
        assert "found 2 sources; extract each with a separate command" in run.output

    def test_wrong_credentials(self, s3, tmp_path):
        s3.ask("POST", "/moto-api/reset-auth", "0")
        text = self.stopped(tmp_path)
        assert "s3://photos cannot be used: the credentials are refused (403 InvalidAccessKeyId)" in text

    def test_no_credentials(self, s3, tmp_path, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        assert "no credentials are found; set AWS_ACCESS_KEY_ID" in self.stopped(tmp_path)

    def test_an_endpoint_without_encryption(self, s3, tmp_path, monkeypatch):
        monkeypatch.delenv("AWS_ALLOW_HTTP")
        assert "AWS_ALLOW_HTTP=true" in self.stopped(tmp_path)

    def test_anonymous_access(self, s3, tmp_path, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        make_public(s3)
        assert extract(tmp_path / "x.fstore").extracted == 12

    @pytest.mark.parametrize(
        ("status", "code", "said"),
        [
            (403, "AccessDenied", "listing it is denied (403 AccessDenied)"),
            (301, "PermanentRedirect", "it is in another region"),
            (400, "AuthorizationHeaderMalformed", "it is in another region"),
            (403, "SignatureDoesNotMatch", "the credentials are refused (403 SignatureDoesNotMatch)"),
            (503, "SlowDown", "its server answers 503 SlowDown"),
        ],
    )
    def test_a_listing_that_is_refused(self, s3, tmp_path, status, code, said):
        body = f"<Error><Code>{code}</Code><AWSAccessKeyId>AKIAEXAMPLE</AWSAccessKeyId></Error>".encode()
        s3.fault = lambda handler: handler.reply(status, body) or True
        assert said in self.stopped(tmp_path)

    def test_a_name_that_obstore_does_not_read(self, s3, photos, tmp_path):
        assert s3.ask("PUT", "/photos/odd/./x.png", (photos / "daisy/0.png").read_bytes()) == 200
        text = self.stopped(tmp_path, "s3://photos/odd", SourceError)
        assert "does not read the name 'odd/./x.png'" in text

    def test_each_image_is_denied(self, s3, tmp_path):
        s3.fault = lambda handler: ("list-type" not in handler.path and (handler.reply(403) or True)) or False
        text = self.stopped(tmp_path, kind=ExtractionError)
        assert "access denied (403)" in text

    def test_the_first_32_images_are_denied(self, s3, photos, tmp_path):
        for number in range(40):
            s3.bucket.put(f"many/{number}.png", b"x")
        s3.fault = lambda handler: ("list-type" not in handler.path and (handler.reply(403) or True)) or False
        assert "to each of the first 32 images" in self.stopped(tmp_path, "s3://photos/many")

    def test_one_image_is_denied(self, s3, tmp_path):
        s3.fault = lambda handler: ("roses/1.png" in handler.path and (handler.reply(403) or True)) or False
        assert ("roses/1.png", "access denied (403)") in extract(tmp_path / "x.fstore").failures
        s3.fault = None
        assert extract(tmp_path / "x.fstore").read == 1

    @pytest.mark.parametrize(
        "url", ["s3://key:secret@photos/x", "https://h/x.jpg?X-Amz-Signature=00secret00"]
    )
    def test_addresses_with_credentials(self, tmp_path, url):
        with pytest.raises(SourceError, match="holds a credential") as caught:
            extract(tmp_path / "x.fstore", [url])
        assert "secret" not in str(caught.value)
