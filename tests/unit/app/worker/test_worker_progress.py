from structlog.testing import capture_logs

from app.worker.progress import LoggedProgress


def test_every_report_is_passed_on_and_each_stage_and_tenth_is_logged() -> None:
    passed: list[tuple[str, float]] = []
    report = LoggedProgress(lambda stage, progress: passed.append((stage, progress)))
    with capture_logs() as logged:
        for stage, progress in [("convert", 0.1), ("convert", 0.12), ("convert", 0.2), ("weights", 0.21)]:
            report(stage, progress)
    assert len(passed) == 4
    assert [(line["stage"], line["percent"]) for line in logged] == [("convert", 10), ("convert", 20), ("weights", 21)]
