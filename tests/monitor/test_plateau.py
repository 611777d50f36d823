from fastgan.monitor import WASSERSTEIN, is_best, plateau


def rows(*values, noise=0.01):
    return [{"step": 10 * i, "watch_kernel_distance": v, "watch_kernel_noise": noise} for i, v in enumerate(values, 1)]


def test_a_series_that_falls_has_no_plateau():
    assert plateau(rows(*(1 - 0.05 * i for i in range(20)))) is None


def test_a_series_that_stays_within_the_noise_has_one_and_the_step_of_its_best():
    series = rows(1.0, 0.5, 0.49, 0.51, 0.485, 0.5, 0.5)
    assert plateau(series) == 20 and plateau(series[:-1]) is None
    assert plateau(rows(1.0, 0.5, 0.49, 0.51, 0.47, 0.5, 0.5)) is None  # 0.47 is beyond the noise


def test_rows_without_observations_count_for_nothing():
    assert plateau([{"step": 1, "d_loss": 0.0}] * 20) is None and not is_best([{"step": 1}])


def test_the_best_is_the_lowest():
    assert is_best(rows(1.0, 0.5)) and not is_best(rows(0.5, 1.0)) and not is_best(rows(0.5, 0.5))


def test_what_a_pair_does_before_it_is_whole_does_not_count():
    growing = [row | {"watch_growing": True} for row in rows(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)]
    assert plateau(growing) is None and not is_best(growing)
    assert is_best([*growing, *rows(0.5)]) and plateau([*growing, *rows(0.5, 0.5)]) is None


def test_an_estimate_counts_from_its_peak_on():
    def estimates(*values):
        return [{"step": 10 * i, "watch_wasserstein": v, "watch_wasserstein_noise": 0.01} for i, v in enumerate(values)]

    rising = estimates(0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    assert plateau(rising, WASSERSTEIN) is None
    falling = estimates(0.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert plateau(falling, WASSERSTEIN) == 20 and plateau(falling[:-1], WASSERSTEIN) is None
