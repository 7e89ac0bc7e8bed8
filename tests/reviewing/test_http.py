"""What the server of a review answers, over a socket."""

import json
import urllib.error
import urllib.request
from io import BytesIO

import pytest
from PIL import Image

import featstore
from featstore.errors import CorrectionsError
from featstore.reviewing import ReviewSession
from featstore.reviewing.app import make_app
from page_material import LABELS, running_app


def ask(address, path, body=None, **headers):
    given = {
        "content-type": "application/json",
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, given)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, found, headers = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, found, headers = error.code, error.read(), error.headers
    return status, json.loads(found) if "json" in headers["content-type"] else found, headers


def decide(address, item, decision, new=""):
    return ask(address, "/decisions", {"content_hash": item["hash"], "decision": decision, "new": new})


def test_a_decision_is_in_the_file_at_once_and_can_be_undone(server, session):
    state = ask(server, "/queue")[1]
    assert (state["who"], state["classes"], state["decisions"]) == ("Ada", sorted(LABELS), {})
    item = next(one for one in state["items"] if one["labels"] == [LABELS[0]])
    assert decide(server, item, "relabel", 'a new label, "quoted"')[:2] == (
        200,
        {"decision": "relabel", "new": 'a new label, "quoted"'},
    )
    (line,) = featstore.read_corrections(session.path)
    assert (line.content_hash, line.old, line.path, line.who) == (
        item["hash"],
        LABELS[0],
        item["path"],
        "Ada",
    )
    assert line.when.endswith("+00:00")
    assert decide(server, item, "accept")[1] == {"decision": "accept", "new": LABELS[0]}
    state = ask(server, "/queue")[1]
    assert state["decided"] == [item["hash"]]
    assert 'a new label, "quoted"' not in state["classes"]
    assert ask(server, "/undo", {"content_hash": item["hash"]})[1]["new"] == 'a new label, "quoted"'
    assert ask(server, "/undo", {"content_hash": item["hash"]})[1] is None
    assert ask(server, "/undo", {"content_hash": item["hash"]})[0] == 400


def test_a_later_review_goes_on_from_what_is_decided(server, session, head, table):
    items = ask(server, "/queue")[1]["items"]
    decide(server, items[0], "relabel", items[0]["suggested"])
    again = ReviewSession(head, table, session.path, who="Bob", most=4)
    assert items[0]["hash"] not in {item.content_hash for item in again.queue.items}
    state = again.state()
    assert state["items"][-1]["hash"] == state["decided"][0] == items[0]["hash"]
    assert state["items"][-1]["labels"] == items[0]["labels"]
    # The next suspect has moved up.
    assert len([one for one in state["items"] if "suspect" in one["kinds"]]) == 4


def test_photos_are_those_of_the_table(server, table, photos):
    status, found, headers = ask(server, f"/photos/{table.content_hash[3]}")
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "image/webp", "no-store")
    with Image.open(BytesIO(found)) as image:
        assert image.width * 12 == image.height * 16
    for other in ("0" * 64, "..%2f..%2fetc%2fpasswd", "list.csv"):
        status, told, _ = ask(server, f"/photos/{other}")
        assert status == 404
        assert told["error"]


def test_a_photo_that_is_gone_is_told_of(server, table, photos):
    path = photos / "<img src=x onerror=alert(3)>.png"
    path.rename(photos / "elsewhere.png")
    try:
        status, told, _ = ask(server, f"/photos/{table.content_hash[3]}")
    finally:
        (photos / "elsewhere.png").rename(path)
    assert status == 422
    assert "no such file" in told["error"].lower()


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/decisions", b"{", 400, "the body is not JSON"),
        ("/decisions", [], 400, "expected an object with the texts content_hash, decision, new"),
        ("/decisions", {"content_hash": 5}, 400, "expected an object"),
        ("/decisions", {"content_hash": "0" * 64, "decision": "exclude"}, 404, "no image of list has the content"),
        ("/decisions", {"decision": "keep"}, 400, "a decision must be one of accept, relabel"),
        ("/decisions", {"decision": "relabel"}, 400, "relabel needs the label"),
        ("/decisions", {"decision": "relabel", "new": "a\0"}, 400, "zero byte"),
        ("/decisions", {"decision": "relabel", "new": "x" * 90_000}, 400, "over 65,535 bytes"),
        ("/decisions", {"decision": "duplicate", "new": "0" * 64}, 404, "no image of list has the content"),
        ("/decisions", b"x" * 200_000, 413, "larger than 0.1 MB"),
        ("/undo", {}, 400, "has no correction of the image"),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_and_writes_nothing(
    server, session, table, path, body, status, says, tmp_path
):
    if isinstance(body, dict) and "content_hash" not in body:
        body = {"content_hash": str(table.content_hash[3]), **body}
    found = ask(server, path, body)
    assert found[0] == status
    assert says in found[1]["error"]
    assert [*tmp_path.iterdir()] == []


def test_accepting_needs_one_label(server, table):
    state = ask(server, "/queue")[1]
    item = next(one for one in state["items"] if not one["labels"])
    status, told, _ = decide(server, item, "accept")
    assert (status, told["error"]) == (400, "only one label can be right; the image has none")


def test_a_page_elsewhere_can_neither_write_nor_lead_here(server, table, tmp_path):
    body = {"content_hash": str(table.content_hash[3]), "decision": "exclude"}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"):
        assert ask(server, "/decisions", body, content_type=kind)[0] == 415
        assert ask(server, "/undo", body, content_type=kind)[0] == 415
    assert ask(server, "/decisions", body, host="evil.example")[0] == 400
    assert ask(server, "/queue", host="evil.example")[0] == 400
    assert [*tmp_path.iterdir()] == []


def test_a_token_is_asked_for_by_all_that_shows_or_writes(session, table):
    with running_app(make_app(session, token="s3cret")) as address:
        content = str(table.content_hash[3])
        body = {"content_hash": content, "decision": "exclude"}
        for path, sent in (
            ("/queue", None),
            (f"/photos/{content}", None),
            ("/decisions", body),
            ("/undo", body),
        ):
            assert ask(address, path, sent)[0] == ask(address, path, sent, authorization="Bearer x")[0] == 401
        assert ask(address, "/")[0] == ask(address, "/healthz")[0] == 200
        assert ask(address, "/decisions", body, authorization="Bearer s3cret")[0] == 200


def test_a_full_disk_is_told_of_and_loses_nothing(server, session, monkeypatch):
    items = ask(server, "/queue")[1]["items"]
    decide(server, items[0], "exclude")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", full)
        status, told, _ = decide(server, items[1], "exclude")
    assert status == 500
    assert "no space left on device" in told["error"]
    assert [line.content_hash for line in featstore.read_corrections(session.path)] == [items[0]["hash"]]


def test_names_are_text_in_the_page(server):
    status, page, headers = ask(server, "/")
    assert status == 200
    assert page.count(b"<script") == page.count(b"</script") == 2
    assert "script-src 'sha256-" in headers["content-security-policy"]


def test_a_file_of_something_else_is_not_written_into(head, table, photos):
    before = (photos / "list.csv").read_bytes()
    with pytest.raises(CorrectionsError, match="is no file of corrections"):
        ReviewSession(head, table, photos / "list.csv")
    assert (photos / "list.csv").read_bytes() == before
