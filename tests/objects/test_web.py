"""Lists of addresses on a web server, and on other file systems."""

import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import SourceError, SourceUnavailableError
from featstore.images import open_source
from featstore.io.remote import failures
from featstore.io.remote.opening import find_object, read_object
from object_server import Server
from pictures import write_picture


@pytest.fixture
def pictures(tmp_path):
    for number in range(6):
        write_picture(tmp_path / f"{number}.png", number)
    return [(tmp_path / f"{number}.png").read_bytes() for number in range(6)]


@pytest.fixture
def web(pictures):
    """A server of pictures at ``/0.png`` to ``/5.png``."""

    def answer(handler):
        name = handler.path.partition("?")[0].strip("/").removesuffix(".png")
        if not name.isdecimal():
            handler.reply(404)
        else:
            handler.reply(200, pictures[int(name)], {"ETag": f'"{name}"'})

    server = Server(answer).start()
    yield server
    server.close()


@pytest.fixture
def urls(web):
    return [f"{web.url}/{number}.png" for number in range(6)]


def extract(store, urls):
    path = store.with_suffix(".csv")
    path.write_text("path,label\n" + "".join(f"{url},{url[-5]}\n" for url in urls), encoding="utf-8")
    return featstore.extract(path, store, backbone=CountingBackbone())


def answers(path, *arguments, **options):
    """Return a fault: this answer for paths that hold a text."""

    def fault(handler):
        if path in handler.path:
            handler.reply(*arguments, **options)
            return True
        return False

    return fault


def test_a_list_of_addresses_is_looked_up_and_read_once(web, urls, tmp_path):
    report = extract(tmp_path / "list.fstore", [*urls, f"{web.url}/none.png"])
    assert (report.extracted, report.failures) == (6, ((f"{web.url}/none.png", "not found (404)"),))
    assert (web.count("HEAD"), web.count("GET")) == (7, 6)
    assert featstore.FeatureStore(report.store).table().paths.tolist() == urls
    again = extract(tmp_path / "list.fstore", urls)
    assert (again.reused, again.read, web.count("GET")) == (6, 0, 6)


def test_an_address_may_have_a_query_and_odd_letters(web, urls, tmp_path):
    report = extract(tmp_path / "list.fstore", [f"{urls[0]}?id=3&x=%20", f"{urls[1]}?q=ü b"])
    assert report.extracted == 2
    assert ("GET", "/0.png?id=3&x=%20") in web.requests
    assert ("GET", "/1.png?q=%C3%BC%20b") in web.requests


def test_redirections_are_followed_to_an_end(web, urls, pictures):
    web.fault = answers("/to.png", 302, b"", {"Location": "/3.png"})
    assert read_object(f"{web.url}/to.png") == (pictures[3], "3")
    web.fault = answers("/to.png", 302, b"", {"Location": "/to.png"})
    with pytest.raises(featstore.errors.ImageError, match="more than 5 redirections"):
        read_object(f"{web.url}/to.png")


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_a_server_may_know_no_head(web, urls, pictures, status):
    web.fault = lambda handler: handler.command == "HEAD" and (handler.reply(status) or True)
    found = find_object(urls[2])
    assert (found.size, found.tag) == (len(pictures[2]), "2")


def test_an_image_may_come_without_its_length(web, urls, pictures):
    def fault(handler):
        handler.send_response_only(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(pictures[0]), pictures[0]))
        return True

    web.fault = fault
    assert read_object(urls[0]) == (pictures[0], None)
    assert find_object(urls[0]).size == -1


def test_without_an_etag_an_old_date_tells_versions_apart(web, urls, pictures):
    now = datetime.now(UTC)

    def tag(seconds):
        dates = {"Last-Modified": now - timedelta(seconds=seconds), "Date": now}
        headers = {name: format_datetime(date, usegmt=True) for name, date in dates.items()}
        web.fault = answers("/0.png", 200, pictures[0], headers)
        return find_object(urls[0]).tag

    assert tag(60) == format_datetime(now - timedelta(seconds=60), usegmt=True)
    # Another version may be written within the same second.
    assert tag(1) is None


def test_what_has_no_version_is_read_each_time(web, urls, pictures, tmp_path):
    web.fault = answers("/0.png", 200, pictures[0])
    extract(tmp_path / "list.fstore", urls[:2])
    again = extract(tmp_path / "list.fstore", urls[:2])
    assert (again.read, again.reused) == (1, 2)


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(failures, "RETRY_SECONDS", 20)


def test_what_may_pass_is_tried_again(patient, web, urls, pictures):
    left = {"GET": [503, 429, 500], "HEAD": [502]}

    def fault(handler):
        statuses = left[handler.command]
        return bool(statuses) and (handler.reply(statuses.pop()) or True)

    web.fault = fault
    assert find_object(urls[0]).tag == "0"
    assert read_object(urls[0]) == (pictures[0], "0")
    assert (web.count("HEAD"), web.count("GET")) == (2, 4)


def test_an_answer_that_is_cut_off_is_asked_for_again(patient, web, urls, pictures):
    cuts = [100, 0, 300]
    web.fault = lambda handler: bool(cuts) and (handler.reply(200, pictures[0], cut=cuts.pop()) or True)
    assert read_object(urls[0])[0] == pictures[0]
    assert web.count("GET") == 4


def test_a_server_that_does_not_answer_is_given_up(web, urls, monkeypatch):
    from featstore.io.remote import web as module

    monkeypatch.setattr(module, "_READ_S", 0.1)
    web.fault = lambda handler: web.released.wait(30)
    with pytest.raises(
        SourceUnavailableError, match=f"{web.url} cannot be used: its server does not answer in time"
    ):
        read_object(urls[0])


def test_a_server_that_is_not_there_is_named(web, urls, tmp_path):
    web.close()
    with pytest.raises(
        SourceUnavailableError, match=f"{web.url} cannot be used: no connection to its server"
    ):
        extract(tmp_path / "list.fstore", urls)


def test_a_host_that_nobody_knows_is_named(tmp_path):
    with pytest.raises(SourceUnavailableError, match=r"https://no-such-host\.invalid cannot be used: no "):
        extract(tmp_path / "list.fstore", ["https://no-such-host.invalid/1.png"])


def test_of_several_hosts_one_may_be_away(web, urls, tmp_path):
    web.fault = answers("/1.png", 403)
    away = ["https://no-such-host.invalid/1.png", "https://no-such-host.invalid/2.png"]
    report = extract(tmp_path / "list.fstore", [*away, *urls[:2]])
    assert report.extracted == 1
    said = "https://no-such-host.invalid cannot be used: no "
    assert [(path, reason[: len(said)]) for path, reason in report.failures[1:]] == [
        (url, said) for url in away
    ]
    web.fault = None
    assert extract(tmp_path / "list.fstore", [*away, *urls[:2]]).read == 1


def test_a_web_server_lists_nothing(web):
    with pytest.raises(SourceError, match=r"has no listing; give a \.csv list"):
        open_source(f"{web.url}/photos")


def test_all_addresses_denied_is_told_after_32(web, tmp_path):
    web.fault = answers("/", 403)
    urls = [f"{web.url}/{number}.png" for number in range(40)]
    with pytest.raises(SourceUnavailableError, match="to each of the first 32 images"):
        extract(tmp_path / "list.fstore", urls)


class TestFsspec:
    @pytest.fixture
    def files(self, pictures):
        fsspec = pytest.importorskip("fsspec")
        files = fsspec.filesystem("memory")
        for number, picture in enumerate(pictures):
            files.pipe(f"/photos/{'ab'[number % 2]}/{number}.png", picture)
        yield files
        files.rm("/photos", recursive=True)

    def test_a_folder_of_any_file_system_is_a_source(self, files, pictures, tmp_path):
        store = tmp_path / "photos.fstore"
        report = featstore.extract("memory://photos", store, backbone=CountingBackbone())
        assert (report.extracted, report.catalog) == (6, "photos")
        table = featstore.FeatureStore(store).table()
        assert table.paths.tolist()[0] == "memory://photos/a/0.png"
        assert sorted(set(table.y.tolist())) == ["a", "b"]
        assert featstore.extract("memory://photos", store, backbone=CountingBackbone()).read == 0
        files.pipe("/photos/a/0.png", pictures[1])
        again = featstore.extract("memory://photos", store, backbone=CountingBackbone())
        assert (again.read, again.extracted) == (1, 0)

    def test_a_list_may_name_its_files(self, files, tmp_path):
        report = extract(tmp_path / "list.fstore", ["memory://photos/a/0.png", "memory://photos/none.png"])
        assert (report.extracted, report.failures) == (1, (("memory://photos/none.png", "no such file"),))

    def test_an_empty_folder_is_named(self, files):
        with pytest.raises(SourceError, match="no image in 'memory://none'"):
            open_source("memory://none")

    def test_an_unknown_scheme_is_named(self, files):
        with pytest.raises(SourceError, match="nosuch:// is no kind of address that is known"):
            open_source("nosuch://photos")

    def test_a_package_that_is_lacking_is_named(self, files, monkeypatch):
        # Which others bring along.
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "hf", raising=False)
        with pytest.raises(featstore.errors.MissingExtraError, match="hf:// cannot be read: "):
            open_source("hf://datasets/someone/photos")


@pytest.mark.parametrize(
    ("url", "module", "said"),
    [
        ("s3://b/x", "obstore", "s3:// needs obstore, not installed here"),
        ("https://h/x.png", "urllib3", "https:// needs urllib3, not installed here"),
        ("hf://b/x", "fsspec", "hf:// is read through fsspec"),
    ],
)
def test_without_a_package_its_name_is_told(monkeypatch, url, module, said):
    for name in ("extras", "io.remote.file_systems"):
        monkeypatch.setattr(f"featstore.{name}.find_spec", lambda one: None if one == module else 1)
    with pytest.raises(featstore.errors.MissingExtraError, match=said):
        read_object(url)
