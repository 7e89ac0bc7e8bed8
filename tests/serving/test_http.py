"""What the server answers, over a socket."""

import asyncio
import base64
import http.client
import json
import re
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest
from PIL import Image

from fakes import CountingBackbone
from featstore.serving import Limits, ServedModel
from featstore.serving.batching import Batcher, BusyError
from featstore.serving.metrics import Metrics

LABEL = "<script>alert(1)</script>"


def ask(address, path, body=None, headers=()):
    """Return status, headers and JSON or text of an answer."""
    request = urllib.request.Request(address + path, body, dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, text, found = answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        status, text, found = error.code, error.read().decode(), error.headers
    return status, json.loads(text) if "json" in found.get("content-type", "") else text, found


def send(address, files, query="", headers=()):
    parts = [
        b'--line\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n'
        % (name.encode(), data)
        for name, data in files
    ]
    told = {"content-type": "multipart/form-data; boundary=line", **dict(headers)}
    return ask(address, f"/predict{query}", b"".join(parts) + b"--line--\r\n", told)


def instances(*images):
    return json.dumps({"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}).encode()


@pytest.fixture(scope="module")
def files(photos):
    return [photos / f"<img src=x onerror=alert({number})>.png" for number in range(6)]


@pytest.fixture(scope="module")
def images(files):
    return [file.read_bytes() for file in files]


def expected(predictor, images, top):
    for prediction in predictor.stream(images, top=top):
        values = prediction.to_dict()
        del values["path"]
        yield values


def test_files_of_a_form_get_the_answers_of_predict_in_order(server, predictor, images):
    status, told, headers = send(server, [(f"photo {n}", image) for n, image in enumerate(images)], "?top=2")
    assert (status, told["model"]) == (200, "ridge")
    assert [one.pop("file") for one in told["predictions"]] == [f"photo {n}" for n in range(6)]
    assert told["predictions"] == list(expected(predictor, images, 2))
    assert headers["x-content-type-options"] == "nosniff"


def test_base64_gets_them_as_of_tensorflow_serving(server, predictor, images):
    status, told, _ = ask(server, "/v1/models/ridge:predict", instances(*images))
    assert (status, told) == (200, {"predictions": list(expected(predictor, images, 3))})
    named = {"instances": [{"image": {"b64": base64.b64encode(images[0]).decode()}}]}
    assert ask(server, "/v1/models/ridge:predict", json.dumps(named).encode())[1] == {
        "predictions": told["predictions"][:1]
    }
    state = ask(server, "/v1/models/ridge")[1]["model_version_status"]
    assert [(one["version"], one["state"]) for one in state] == [("1", "AVAILABLE")]
    assert ask(server, "/v1/models/ridge/metadata")[1]["classes"] == predictor.classes.tolist()


WHOLE = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"[" * 100_000, 400, "the body is not JSON"),
        (b"[]", 400, 'expected {"instances"'),
        (b'{"instances": []}', 400, "at least one image"),
        (b'{"instances": [{"b64": 5}]}', 400, 'instance 0: expected {"b64"'),
        (b'{"instances": [{"b64": "?"}]}', 400, "instance 0: not base64"),
        (instances(b"hello there"), 400, "instance 0: not an image: text"),
        (instances(WHOLE), 400, "instance 0: "),
        (instances(*[WHOLE] * 9), 413, "9 images in one request; this server takes 8"),
        (b" " * 600_000, 413, "larger than 0.5 MB"),
    ],
)
def test_a_bad_body_is_refused_with_the_reason(server, body, status, says):
    found = ask(server, "/v1/models/ridge:predict", body)
    assert found[0] == status
    assert says in found[1]["error"]


def test_a_bad_image_among_good_ones_is_reported_and_leaves_them_alone(server, images, tmp_path):
    big = tmp_path / "big.png"
    Image.new("1", (700, 700)).save(big)
    files = [("good", images[0]), ("text", b"hello"), ("big", big.read_bytes()), ("cut", images[1][:-200])]
    status, told, _ = send(server, files)
    assert status == 200
    errors = [one.get("error", "") for one in told["predictions"]]
    assert errors[0] == ""
    assert errors[1].startswith("not an image: text")
    assert errors[2] == "the image has 700 x 700 pixels; this server takes 0.4 megapixels"
    assert errors[3].startswith("truncated")
    assert send(server, files[1:])[0] == 422


@pytest.mark.parametrize(
    ("query", "files", "status", "says"),
    [
        ("", [], 400, "the form has no file"),
        ("?model=none", [("a", b"")], 404, "there is no model 'none'; there is ridge, <b>"),
        ("?top=0", [("a", b"")], 400, "top must be a number of at least 1; found '0'"),
        ("", [("a", b"")] * 9, 413, "9 images in one request"),
    ],
)
def test_a_bad_form_is_refused_with_the_reason(server, query, files, status, says):
    found = send(server, files, query)
    assert found[0] == status
    assert says in found[1]["error"]


def test_what_is_no_form_is_refused(server):
    assert ask(server, "/predict", b"x", {"content-type": "text/plain"})[0] == 415
    found = ask(server, "/predict", b"x", {"content-type": "multipart/form-data"})
    assert found[0] == 400
    assert "the form cannot be read" in found[1]["error"]


def test_a_body_of_no_stated_size_is_bounded_too(server):
    host = urllib.parse.urlsplit(server)
    connection = http.client.HTTPConnection(host.hostname, host.port, timeout=60)
    connection.request(
        "POST", "/predict", iter([b"x" * 200_000] * 4), {"content-type": "multipart/form-data; boundary=a"}
    )
    answer = connection.getresponse()
    assert answer.status == 413
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/templates/page.js",
        "/predict/x",
    ],
)
def test_no_path_of_a_client_leads_to_a_file(server, path):
    status, told, _ = ask(server, path)
    assert status == 404
    assert "root:" not in json.dumps(told)
    assert told["error"]


def test_a_name_that_leads_here_by_anothers_choice_is_refused(server):
    assert ask(server, "/healthz", headers={"host": "evil.example"})[0] == 400
    assert ask(server, "/healthz")[1] == {"status": "ok"}


def test_every_route_is_described_and_every_description_is_of_a_route(server):
    described = ask(server, "/openapi.json")[1]
    page = ask(server, "/docs")[1]
    for path, operations in described["paths"].items():
        for method in operations:
            status = ask(server, path.replace("{name}", "ridge"), b"" if method == "post" else None)[0]
            assert status in ((400, 415) if method == "post" else (200,))
            assert f"{method.upper()} {path.replace('&', '&amp;')}" in page
    references = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described))
    assert set(references) <= set(described["components"]["schemas"])


def test_requests_and_images_are_counted(server, images):
    send(server, [("a", images[0]), ("b", b"x")])
    text = ask(server, "/metrics")[1]
    for pattern in (
        r'featstore_requests_total\{route="predict_files",status="200"\} [1-9]',
        r'featstore_images_total\{model="ridge",outcome="answered"\} [1-9]',
        r'featstore_images_total\{model="ridge",outcome="refused"\} [1-9]',
        r'featstore_batch_images_count\{model="ridge"\} [1-9]',
    ):
        assert re.search(pattern, text), pattern


def test_names_of_classes_and_models_are_text_in_the_page(server):
    status, page, headers = ask(server, "/")
    assert status == 200
    assert page.count("<script") == page.count("</script") == 2
    assert "<b>" not in page
    assert "script-src 'sha256-" in headers["content-security-policy"]


def test_details_are_the_picture_as_seen_and_the_nearest_training_photos(server, images, head, table):
    (one,) = send(server, [("a", images[3])], "?detail=1")[1]["predictions"]
    assert one["seen"].startswith("data:image/webp;base64,")
    similarity = [near["similarity"] for near in one["neighbors"]]
    assert similarity == sorted(similarity, reverse=True)
    assert len(similarity) == 6
    assert (similarity[0] > 0.999) == bool(head.was_fitted_on(table)[3])
    assert all(near["picture"].startswith("data:image/webp;base64,") for near in one["neighbors"])
    (other,) = send(server, [("a", images[3])], "?detail=1&model=%3Cb%3E")[1]["predictions"]
    assert other["neighbors"] == []


def test_a_token_is_asked_for_by_all_that_answers_about_images(serving, predictor, images):
    with serving([ServedModel(name="ridge", predictor=predictor)], Limits(), token="s3cret") as address:
        for given in ("", "Bearer wrong", "s3cret", "Bearer \xfc"):
            status, told, headers = send(address, [("a", images[0])], headers={"authorization": given})
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert "Authorization: Bearer TOKEN" in told["error"]
        assert ask(address, "/metrics")[0] == ask(address, "/v1/models")[0] == 401
        assert ask(address, "/healthz")[0] == ask(address, "/")[0] == 200
        right = {"authorization": "Bearer s3cret"}
        assert send(address, [("a", images[0])], headers=right)[0] == 200


def test_a_request_that_does_not_arrive_is_given_up(serving, predictor):
    with serving([ServedModel(name="ridge", predictor=predictor)], Limits(seconds=0.2)) as address:
        host = urllib.parse.urlsplit(address)
        with socket.create_connection((host.hostname, host.port), timeout=60) as connection:
            connection.sendall(
                b"POST /v1/models/ridge:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        with socket.create_connection((host.hostname, host.port), timeout=60) as connection:
            connection.sendall(
                b"POST /v1/models/ridge:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
            )
        assert ask(address, "/healthz")[0] == 200


def test_a_failure_of_ours_is_reported_and_ends_nothing(serving, head, images):
    import featstore

    failing = CountingBackbone(feature_dim=96, before_batch=lambda number: 1 / 0 if number == 0 else None)
    predictor = featstore.Predictor(head, backbone=failing)
    with serving([ServedModel(name="ridge", predictor=predictor)], Limits()) as address:
        status, told, _ = ask(address, "/v1/models/ridge:predict", instances(images[0]))
        assert (status, told["error"]) == (500, "the server failed on this request; its log says why")
        failing.batches = 1
        assert ask(address, "/v1/models/ridge:predict", instances(images[0]))[0] == 200


def test_many_clients_at_once_each_get_their_own_answer(server, predictor, images):
    right = list(expected(predictor, images, 3))
    wrong = []

    def client(number):
        for at in range(number, number + 5):
            told = ask(server, "/v1/models/ridge:predict", instances(images[at % 6]))[1]
            if told != {"predictions": [right[at % 6]]}:
                wrong.append(told)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def batched(predictor, most_waiting, ask_for):
    """Run something on a batcher, and return what it returned and the sizes of the batches."""

    async def run():
        metrics = Metrics()
        batcher = Batcher("ridge", predictor, metrics, most_waiting=most_waiting)
        try:
            result = await ask_for(batcher)
        finally:
            await batcher.stop()
        get = metrics.registry.get_sample_value
        return result, [
            get(f"featstore_batch_images_{name}", {"model": "ridge"}) for name in ("count", "sum")
        ]

    return asyncio.run(run())


def test_images_that_wait_together_pass_together(predictor, images):
    async def ask_for(batcher):
        batcher.start()
        return await asyncio.gather(*(batcher.predict([image]) for image in images * 8))

    answers, (n_batches, n_images) = batched(predictor, 99, ask_for)
    assert [one[0][0].label for one in answers] == [one.label for one in predictor.stream(images * 8)]
    assert (n_batches, n_images) == (2, 48)


def test_more_than_may_wait_are_refused_at_once_and_those_of_a_client_that_is_gone_dropped(predictor, images):
    async def ask_for(batcher):
        gone = asyncio.create_task(batcher.predict(images[:4]))
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="4 images are waiting"):
            await batcher.predict(images[:3])
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        batcher.start()
        return await batcher.predict(images[:1])

    answers, (n_batches, n_images) = batched(predictor, 6, ask_for)
    assert (len(answers), n_batches, n_images) == (1, 1, 1)
