import pytest

from fastgan import Recipe
from fastgan.monitor import FID, WASSERSTEIN, best, is_best, plateau
from fastgan.monitor.stop import Stop


def rows(*values, noise=0.01):
    return [{"step": 10 * i, "watch_kernel_distance": v, "watch_kernel_noise": noise} for i, v in enumerate(values, 1)]


def test_a_series_that_falls_has_no_plateau():
    assert plateau(rows(*(1 - 0.05 * i for i in range(20))), patience=50) is None


def test_a_series_that_stays_within_the_noise_has_one_and_the_step_of_its_best():
    series = rows(1.0, 0.5, 0.49, 0.51, 0.485, 0.5, 0.5)
    assert plateau(series, patience=50) == 50 == best(series)["step"] and plateau(series[:-1], patience=50) is None
    assert plateau(rows(1.0, 0.5, 0.49, 0.51, 0.47, 0.5, 0.5), patience=50) is None  # 0.47 is beyond the noise


@pytest.mark.parametrize("every", [1, 2, 5])
def test_patience_is_in_steps_and_not_in_observations(every):
    series = rows(1.0, *([0.5] * 30))[1::every]  # steps 20, ...: nothing improves after 20
    ends = [row["step"] for i, row in enumerate(series) if plateau(series[: i + 1], patience=120)]
    assert 140 <= ends[0] < 140 + 10 * every, ends


def test_a_long_way_to_the_best_has_a_longer_patience_and_few_observations_are_not_enough():
    late = rows(*(1 - 0.01 * i for i in range(50)), *([0.52] * 26))
    assert plateau(late, patience=50) == 500 and plateau(late[:-3], patience=50) is None  # 490 + 245
    assert plateau(rows(1.0, 2.0, 2.0), patience=10) is None


def test_patience_is_a_number_of_images():
    few, many = (Stop(Recipe(batch_size=size), None, None, None).patience for size in (16, 128))
    assert few == 8 * many == Stop.IMAGES / 16


def test_rows_without_observations_count_for_nothing():
    assert plateau([{"step": 1, "d_loss": 0.0}] * 20, patience=1) is None and not is_best([{"step": 1}])


def test_the_best_is_the_lowest():
    assert is_best(rows(1.0, 0.5)) and not is_best(rows(0.5, 1.0)) and not is_best(rows(0.5, 0.5))


def test_what_a_pair_does_before_it_is_whole_does_not_count():
    growing = [row | {"watch_growing": True} for row in rows(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)]
    assert plateau(growing, patience=30) is None and not is_best(growing)
    assert is_best([*growing, *rows(0.5)]) and plateau([*growing, *rows(0.5, 0.5)], patience=30) is None


def test_an_estimate_counts_from_its_peak_on():
    def estimates(*values):
        return [{"step": 10 * i, "watch_wasserstein": v, "watch_wasserstein_noise": 0.01} for i, v in enumerate(values)]

    rising = estimates(0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    assert plateau(rising, WASSERSTEIN, 50) is None
    falling = estimates(0.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert plateau(falling, WASSERSTEIN, 50) == 20 and plateau(falling[:-1], WASSERSTEIN, 50) is None


def test_fids_by_two_extractors_do_not_compare():
    old = [{"step": step, "fid": 1.0, "fid_by": "a"} for step in (10, 20)]
    new = [{"step": step, "fid": value, "fid_by": "b"} for step, value in ((30, 9.0), (40, 5.0), (50, 6.0))]
    assert best(old + new, FID)["step"] == 40 and is_best(old + new[:2], FID) and not is_best(old + new, FID)
    flat = [*new, *({"step": step, "fid": 6.0, "fid_by": "b"} for step in (60, 70, 80))]
    assert plateau(old + flat, FID, patience=20) == 40 and plateau(old + flat, FID, patience=50) is None
