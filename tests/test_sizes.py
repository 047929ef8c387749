"""What `python -m bench.sizes` measures is all that was paid with, at and on."""

from click.testing import CliRunner

from aegis_app.core.payment import GIVES_BACK
from aegis_app.simulate import simulate
from bench import sizes


def test_every_card_merchant_and_device_is_measured_and_within_its_bounds() -> None:
    done = CliRunner().invoke(sizes.main, ["--cards", "20", "--days", "10", "--seed", "3"])
    paid = [each.transaction for each in simulate(20, 10, 3, sizes.START, fraud_rate=0.002)]
    attempts = [txn for txn in paid if txn.kind not in GIVES_BACK]

    assert done.exit_code == 0, done.output
    rows = [line.strip("| ").replace(",", "").split(" | ") for line in done.output.splitlines()[2:]]
    assert [(name, int(number)) for name, number, *_ in rows] == [
        ("cards", len({txn.card_id for txn in paid})),
        ("merchants", len({txn.merchant_id for txn in attempts} - {None})),
        ("devices", len({txn.device_id for txn in attempts} - {None})),
    ]
    for (_, _, mean, median, most_of_them, most), bound in zip(rows, (8192, 24576, 24576), strict=True):
        assert 0 < int(median) <= int(most_of_them) <= int(most) < bound
        assert 0 < int(mean) <= int(most)
