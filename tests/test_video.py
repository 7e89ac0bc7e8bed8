"""Videos frame by frame, each written by the test itself."""

import csv
import io
import json

import av
import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from featstore.errors import ImageError
from featstore_cli.main import main


def write(path, n_frames=35, *, rate=10, shade=lambda number: number * 7, codec="mpeg4"):
    """A film that gets lighter, dark above and light below."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(n_frames):
            pixels = np.full((48, 64, 3), shade(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.mark.parametrize(
    ("every_s", "times"),
    [
        (1, [0, 1, 2, 3]),
        (0.5, [0, 0.5, 1, 1.5, 2, 2.5, 3]),
        (0.25, [0, 0.3, 0.5, 0.8, 1, 1.3, 1.5, 1.8, 2, 2.3, 2.5, 2.8, 3, 3.3]),
        (60, [0]),
    ],
)
def test_frames_come_at_even_times(film, every_s, times):
    frames = list(featstore.video_frames(film, every_s=every_s))
    assert [frame.time_s for frame in frames] == times
    for frame in frames:
        assert frame.pixels.shape == (48, 64, 3)
        # What compression leaves of it.
        assert abs(frame.pixels.mean() - 10 * frame.time_s * 7) < 8


def test_every_frame_is_there_below_their_distance(film):
    assert len(list(featstore.video_frames(film, every_s=0.01))) == 35


def test_a_broken_film_gives_what_precedes_the_damage(film, tmp_path):
    whole = write(tmp_path / "whole.mkv", 200, shade=lambda number: number)
    data = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[:900])
    times = [frame.time_s for frame in featstore.video_frames(tmp_path / "cut.mkv")]
    assert 3 < len(times) < 20
    with pytest.raises(ImageError, match="not a video that can be read"):
        list(featstore.video_frames(tmp_path / "cut.mp4"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a video that can be read"),
        (b"hello there, this is a text\n" * 100, "not a video that can be read"),
        # A list of other files to open.
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "not a video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not a video that can be read"),
        (None, "no such file"),
    ],
)  # fmt: skip
def test_what_is_no_video_is_told_of(tmp_path, content, says):
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=says):
        list(featstore.video_frames(path))


def test_sound_alone_and_no_time_are_refused(film, tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(ImageError, match="has no pictures"):
        list(featstore.video_frames(tmp_path / "sound.mp4"))
    with pytest.raises(ImageError, match="above 0; found 0"):
        featstore.video_frames(film, every_s=0)


@pytest.fixture(scope="module")
def demo_film(small_demo):
    return write(small_demo / "film.mp4")


def test_predict_labels_frames_with_their_times(demo_film, monkeypatch):
    monkeypatch.chdir(demo_film.parent)
    (demo_film.parent / "text.mp4").write_text("hello")
    line = ["predict", "digits.fstore/heads/logistic.head", "film.mp4", "text.mp4", "--every", "500ms"]
    result = CliRunner().invoke(main, [*line, "--format", "csv"])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["time_s"] for row in rows] == ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0", ""]
    predictor = featstore.Predictor("digits.fstore/heads/logistic.head")
    frames = featstore.video_frames("film.mp4", every_s=0.5)
    assert [row["label"] for row in rows[:-1]] == [predictor.predict(frame.pixels).label for frame in frames]
    assert rows[-1]["path"] == "text.mp4"
    assert rows[-1]["reason"].startswith("not a video that can be read")
    assert "text.mp4: not a video" in result.stderr
    told = json.loads(CliRunner().invoke(main, [*line, "--json"]).stdout)
    assert [one.get("time_s") for one in told] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, None]
    table = CliRunner().invoke(main, line).stdout
    assert table.splitlines()[1].startswith("film.mp4\t0.500 s\t")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--every", "0s"], 2, "is no time above 0"),
        (["--every", "soon"], 2, "is no time above 0"),
        (["--every", "1s", "--sort-into", "x"], 2, "their frames are not sorted"),
        ([], 1, "a video or another MP4 container (`featstore predict --every 1s` reads videos)"),
        (["--every", "1s", "digits"], 0, "a folder, not a video: name the videos in it"),
    ],
)
def test_mistakes_are_one_clear_line(demo_film, monkeypatch, options, code, says):
    monkeypatch.chdir(demo_film.parent)
    line = ["predict", "digits.fstore/heads/logistic.head", "film.mp4", *options]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == code, result.output
    assert says in result.stderr
