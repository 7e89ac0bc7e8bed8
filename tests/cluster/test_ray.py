"""Extraction and fitting on a real Ray cluster: three nodes on the loopback, processes and a node that die."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from featstore.errors import ExtractionError, HeadError, MissingExtraError
from featstore.flow import ExtractionInterrupted
from featstore.heads.fitting.training import fit as fit_by
from featstore.process import one_thread
from featstore_cli.main import main
from stored_tables import stored_table

HERE = Path(__file__).parent
LONG = pytest.mark.skipif(
    not os.environ.get("FEATSTORE_CLUSTER"), reason="takes seconds each: `make cluster`"
)


def test_without_ray_the_error_names_the_extra(photos, store, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("featstore.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"featstore\[ray\]"):
        featstore.extract(photos, store, backbone="scattering", ray=True)
    assert not store.exists()


def test_a_source_that_is_taken_for_an_address_is_wrong_usage():
    result = CliRunner().invoke(main, ["extract", "--ray", "photos"])
    assert result.exit_code == 2
    assert "without an address, --ray comes last" in " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray") / "photos"
    for number in range(120):
        path = folder / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    broken = folder / "a" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    os.utime(broken, ns=(10**18, 10**18))
    return folder


@pytest.fixture
def store(tmp_path):
    return tmp_path / "photos.fstore"


@pytest.fixture(scope="module")
def networks():
    """The stand-ins, as the workers import them too."""
    sys.path.insert(0, str(HERE))
    import networks

    yield networks
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def whole(photos, networks, tmp_path_factory):
    """What a run without a cluster makes of the photos."""
    path = tmp_path_factory.mktemp("whole") / "photos.fstore"
    featstore.extract(photos, path, backbone=networks.Sent())
    return featstore.FeatureStore(path)


@pytest.fixture(scope="module")
def cluster(networks):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        small = {"object_store_memory": 10**8}
        made = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small}
        )
        for _ in range(2):
            made.add_node(num_cpus=1, **small)
        ray.init(address=made.address, log_to_driver=False, configure_logging=False)
        yield made
        ray.shutdown()
        made.shutdown()


def assert_same(store, whole):
    """Neither a row nor its bits nor the catalog tell which of the two was extracted on a cluster."""
    found = featstore.FeatureStore(store)
    assert found.verify().ok
    assert found.catalog("photos").equals(whole.catalog("photos"))
    assert found.space().n_rows == whole.space().n_rows
    hashes = whole.space().content_hash
    rows = found.space().rows(found.space().lookup(hashes))
    assert rows.tobytes() == whole.space().rows(whole.space().lookup(hashes)).tobytes()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999999"])
def test_an_address_without_a_cluster_is_reported_at_once(photos, store, address):
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(ExtractionError, match=f"no Ray cluster answers at {address}"):
        featstore.extract(photos, store, backbone="scattering", ray=address)
    assert not store.exists()


@pytest.mark.parametrize("when", ["computing", pytest.param("sealed", marks=LONG)])
def test_processes_that_die_cost_nothing_but_time(cluster, networks, photos, store, whole, tmp_path, when):
    network = networks.Dying(tmp_path / "deaths", when, deaths=3)
    report = featstore.extract(photos, store, backbone=network, ray=True)
    assert os.listdir(tmp_path / "deaths") == []
    assert (report.images, report.extracted, report.failed) == (121, 120, 1)
    assert report.nodes
    assert_same(store, whole)


@LONG
def test_a_node_that_is_killed_costs_nothing_but_time(cluster, networks, photos, store, whole):
    doomed = cluster.add_node(num_cpus=1, object_store_memory=10**8)

    def kill(done, total):
        if done > 1 and doomed in cluster.worker_nodes:
            cluster.remove_node(doomed, allow_graceful=False)

    featstore.extract(photos, store, backbone=networks.Sent(), ray=True, progress=kill)
    assert doomed not in cluster.worker_nodes
    assert_same(store, whole)


@LONG
def test_an_image_that_ends_every_process_is_listed(cluster, networks, photos, store, tmp_path):
    folder = tmp_path / "photos"
    for number in range(3):
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (10 * number,) * 3).save(folder / f"{number}.png")
    network = networks.Dying(tmp_path / "deaths", 20, deaths=0)
    report = featstore.extract(folder, store, backbone=network, ray=True)
    assert report.extracted == 2
    ((path, reason),) = report.failures
    assert path == "2.png"
    assert reason.startswith("each process that read it ended")


@LONG
def test_interrupted_it_records_what_is_done_and_goes_on_from_there(cluster, networks, photos, store, whole):
    def interrupt(done, total):
        if done > 1:
            raise KeyboardInterrupt

    with pytest.raises(ExtractionInterrupted) as stopped:
        featstore.extract(photos, store, backbone=networks.Sent(), ray=True, progress=interrupt)
    done = stopped.value.report.extracted
    assert 0 < done < 120
    report = featstore.extract(photos, store, backbone=networks.Sent(), ray=True)
    assert report.extracted <= 120 - done
    assert_same(store, whole)


@LONG
def test_contents_that_the_store_has_are_not_computed(cluster, networks, photos, store, whole):
    featstore.extract(photos, store, backbone=networks.Sent(), ray=True)
    report = featstore.extract(
        photos, store, backbone=networks.Sent(), ray=True, catalog="again", rehash=True
    )
    assert (report.extracted, report.reused, report.read) == (0, 120, 121)


@LONG
def test_a_cluster_without_a_node_that_is_large_enough_is_refused(cluster, networks, photos, store):
    network = networks.Sent()
    network.threads = 8
    with pytest.raises(ExtractionError, match="the largest has 1; lower --threads"):
        featstore.extract(photos, store, backbone=network, ray=True)


@LONG
def test_tasks_take_the_gpus_that_nodes_say_they_have(cluster, networks, photos, store, whole):
    node = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=10**8)
    try:
        report = featstore.extract(photos, store, backbone=networks.Sent(), ray=True)
    finally:
        cluster.remove_node(node)
    assert len(report.nodes) == 1
    assert_same(store, whole)


def test_a_run_with_nothing_to_compute_starts_no_cluster(networks, photos, store, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    featstore.extract(photos, store, backbone=networks.Sent())
    monkeypatch.setattr("featstore.cluster.ray_executor.RayExecutor._connect", pytest.fail)
    assert featstore.extract(photos, store, backbone=networks.Sent(), ray=True).reused == 120


def test_devices_and_a_cluster_exclude_each_other(photos, store):
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(ExtractionError, match="devices are those of one machine"):
        featstore.extract(photos, store, backbone="scattering", devices=["gpu:0"], ray=True)


@LONG
def test_another_cluster_than_the_one_that_is_connected_is_refused(cluster, networks, photos, store):
    with pytest.raises(ExtractionError, match=r"already, not to 192\.0\.2\.1:6379"):
        featstore.extract(photos, store, backbone=networks.Sent(), ray="192.0.2.1:6379")


@LONG
@pytest.mark.filterwarnings("ignore")
def test_ray_data_runs_the_extractor(cluster, photos, store, tmp_path):
    pytest.importorskip("pyarrow", reason="Ray Data needs pyarrow")
    import ray

    extractor = featstore.ShardExtractor(photos, store, catalog="photos", backbone="scattering", threads=1)
    paths = [record.path for record in featstore.images.open_source(photos).records]
    results = ray.data.from_items([{"path": path} for path in paths]).map_batches(extractor, batch_size=32)
    assert sorted(result["path"] for result in results.take_all()) == sorted(paths)
    assert featstore.collect(store, photos).lacking == {}
    featstore.extract(photos, tmp_path / "whole.fstore", backbone="scattering")
    assert_same(store, featstore.FeatureStore(tmp_path / "whole.fstore"))


@pytest.fixture
def table(tmp_path, monkeypatch):
    """In parts of 37 rows."""
    monkeypatch.setattr("featstore.heads.data.blocks._BLOCK_BYTES", 37 * 4 * 12)
    monkeypatch.setattr("featstore.heads.data.parts._PART_BYTES", 37 * 4 * 12)
    return stored_table(tmp_path / "photos.fstore", n_segments=4)[1]


def dying_rows(networks, monkeypatch, folder, deaths):
    """Let the processes that read rows end, so often."""
    networks.make_deaths(folder, deaths)
    sealed_rows = featstore.FeatureTable.sealed_rows

    def dying(table, index):
        return networks.DyingRows(rows=sealed_rows(table, index), folder=str(folder))

    monkeypatch.setattr(featstore.FeatureTable, "sealed_rows", dying)


def assert_same_head(head, whole):
    assert head.sweep == whole.sweep
    assert (head.params, head.test) == (whole.params, whole.test)
    assert head.linear.coef.tobytes() == whole.linear.coef.tobytes()


def test_a_head_has_the_bits_of_one_machine_whose_processes_do_not_die(
    cluster, networks, table, tmp_path, monkeypatch
):
    with one_thread:
        whole = featstore.fit(table, head="ridge", params={"alpha": 30.0})
    dying_rows(networks, monkeypatch, tmp_path / "deaths", 3)
    head = featstore.fit(table, head="ridge", params={"alpha": 30.0}, ray=True)
    assert os.listdir(tmp_path / "deaths") == []
    assert_same_head(head, whole)


@LONG
def test_a_node_that_is_killed_changes_no_head(cluster, table):
    doomed = cluster.add_node(num_cpus=1, object_store_memory=10**8)

    def kill(done, total, _setting):
        if doomed in cluster.worker_nodes:
            cluster.remove_node(doomed, allow_graceful=False)

    params = {"tol": 1e-9}
    head = featstore.fit(table, params=params, ray=True, progress=kill)
    assert doomed not in cluster.worker_nodes
    whole = fit_by(table, params=params, runner=Here())
    assert head.params == whole.params
    np.testing.assert_allclose(head.linear.coef, whole.linear.coef, rtol=0, atol=1e-9)


class Here:
    def run(self, function, parts, shared):
        return (function(rows, *own, *shared) for rows, own in parts)


def test_rows_that_are_compacted_meanwhile_are_found_again(cluster, table, caplog):
    whole = featstore.fit(table, head="ridge", params={"alpha": 30.0})
    featstore.FeatureStore(Path(table.sealed_rows([0]).files[0]).parents[2]).compact()
    head = featstore.fit(table, head="ridge", params={"alpha": 30.0}, ray=True)
    assert_same_head(head, whole)
    assert [record.message for record in caplog.records if "compacted meanwhile" in record.message] == [
        "the store was compacted meanwhile: this machine reads what the cluster no longer finds"
    ]


def test_what_a_task_finds_wrong_is_told_as_it_is(cluster, table):
    there = table.sealed_rows(slice(None))
    with open(there.files[0], "r+b") as file:
        file.seek(there.segments[0][0].offsets[0])
        file.write(np.full(12, np.nan, "<f4").tobytes())
    with pytest.raises(HeadError, match="contain NaN or infinity"):
        featstore.fit(table, head="ridge", ray=True)


def test_a_node_that_does_not_see_the_store_is_told(cluster, networks, table, monkeypatch):
    sealed_rows = featstore.FeatureTable.sealed_rows
    monkeypatch.setattr(
        featstore.FeatureTable,
        "sealed_rows",
        lambda table, index: networks.UnseenRows(rows=sealed_rows(table, index), folder=""),
    )
    with pytest.raises(HeadError, match=r"does not see .*each must see the store under the same path"):
        featstore.fit(table, head="ridge", ray=True)


def test_the_command_fits_on_the_cluster(cluster, table, tmp_path):
    command = ["fit", str(tmp_path / "photos.fstore"), "--head", "ridge", "--param", "alpha=30"]
    here = CliRunner().invoke(main, [*command, "--output", str(tmp_path / "here.head")])
    there = CliRunner().invoke(main, [*command, "--output", str(tmp_path / "there.head"), "--ray", "auto"])
    assert there.exit_code == 0, there.output
    assert there.stdout.replace("there.head", "here.head") == here.stdout


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--head", "auto"], "--head auto compares many fits on this machine"),
        (["--spaces", "auto"], "--spaces compares many fits on this machine"),
    ],
)
def test_comparisons_are_not_made_on_a_cluster(table, tmp_path, options, reason):
    result = CliRunner().invoke(main, ["fit", str(tmp_path / "photos.fstore"), *options, "--ray", "auto"])
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())


def test_a_head_that_is_refused_starts_no_cluster(table, monkeypatch):
    monkeypatch.setattr("featstore.cluster.ray_parts.connected", pytest.fail)
    with pytest.raises(HeadError, match="fitted on a cluster are ridge, lda, logistic, softmax"):
        featstore.fit(table, head="svm", ray=True)


def test_parallel_fits_and_a_cluster_are_not_asked_for_at_once(table):
    with pytest.raises(HeadError, match="jobs are parallel fits on this machine"):
        featstore.fit(table, head="ridge", jobs=2, ray=True)
