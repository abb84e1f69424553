"""What the soak test says about memory."""

import pytest

from tests.soak.__main__ import Size, slope


def test_the_slope_is_that_of_the_second_half() -> None:
    sizes = [Size(float(second), 100.0 if second < 1800 else 50 + second / 360, 10)
             for second in range(0, 3600, 60)]  # fmt: skip
    found = slope(sizes)
    assert found.hourly == pytest.approx(10.0)
    assert found.noise == pytest.approx(0.0, abs=1e-6)


def test_noise_widens_the_error_of_the_slope() -> None:
    sizes = [Size(float(second), 50 + (second // 60 % 2), 10) for second in range(0, 3600, 60)]
    found = slope(sizes)
    assert abs(found.hourly) <= 2 * found.error
    assert found.noise == pytest.approx(0.5, abs=0.05)


def test_too_few_samples_have_no_slope() -> None:
    assert slope([Size(0.0, 10.0, 1)]) == (0.0, 0.0, 0.0)
