import logging
import threading

from featstore.heads import fit_warnings

_LOGGER = logging.getLogger("featstore.heads.somewhere")


def test_a_warning_is_logged_once_in_a_block_and_again_after_it(caplog):
    with fit_warnings.each_warning_once():
        for number in (1, 1, 2):
            fit_warnings.warn(_LOGGER, "%d images", number)
    fit_warnings.warn(_LOGGER, "%d images", 1)
    assert [record.getMessage() for record in caplog.records] == ["1 images", "2 images", "1 images"]
    assert {record.funcName for record in caplog.records} == {
        "test_a_warning_is_logged_once_in_a_block_and_again_after_it"
    }


def test_fits_of_other_threads_warn_as_always_and_no_logger_is_changed(caplog):
    with fit_warnings.each_warning_once():
        fit_warnings.warn(_LOGGER, "100% alike")
        other = threading.Thread(target=fit_warnings.warn, args=(_LOGGER, "100% alike"))
        other.start()
        other.join()
        assert _LOGGER.filters == []
    assert [record.getMessage() for record in caplog.records] == ["100% alike"] * 2
