"""Fields, steps in time and ink against SciPy, closed forms and brute force, and the paintings made of them."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, solve_discrete_lyapunov
from scipy.ndimage import correlate1d, map_coordinates
from scipy.stats import beta, chi2, kstest, poisson

from tinygen import backend
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen.testing.strict import counting
from tinygen_plugins.procedural import particles
from tinygen_plugins.procedural._raster import over_premultiplied, smooth_noise

from .reference import complex_numbers, device

SCHEMES = {"euler": particles.euler_maruyama, "midpoint": particles.midpoint}
schemes = st.sampled_from(list(SCHEMES))
planes = st.tuples(st.integers(3, 7), st.integers(3, 7)).flatmap(reals)


def still(points):
    return 0.0 * points


def linear(matrix):
    """The field v = A x of a matrix (2, 2)."""
    return lambda points: particles.linear_velocity(points, tuple(matrix.ravel().tolist()), (0.0, 0.0))


def follow(scheme, velocity, points, dt, steps):
    """Where points (n, 2) are after so many steps without diffusion."""
    for _ in range(steps):
        points = SCHEMES[scheme](points, velocity, dt, 0.0, 0.0)
    return points


# ---------------------------------------------------------------- the fields


@verifies(particles.linear_velocity)
@given(points=reals((6, 2)), matrix=reals((2, 2)), centre=reals((2,)))
def test_a_linear_field_is_the_matrix_s_product_with_the_way_from_the_centre(points, matrix, centre):
    velocity = particles.linear_velocity(device(points), tuple(matrix.ravel().tolist()), tuple(centre.tolist()))
    close(velocity, np.stack([matrix.dot(point - centre) for point in points]), atol=1e-12)


@verifies(particles.linear_velocity)
@given(points=reals((6, 2)))
def test_a_rotation_turns_by_a_quarter_and_a_source_leads_straight_away(points):
    z = complex_numbers(points)
    for matrix, factor in (((0.0, -1.0, 1.0, 0.0), 1j), ((1.0, 0.0, 0.0, 1.0), 1), ((-1.0, 0.0, 0.0, -1.0), -1)):
        velocity = host(particles.linear_velocity(device(points), matrix, (0.0, 0.0)))
        close(velocity, np.stack([(factor * z).real, (factor * z).imag], axis=-1), atol=1e-12)


def slope(image, axis):
    return correlate1d(image, [-0.5, 0.0, 0.5], axis=axis, mode="wrap")


@verifies(particles.curl, particles.ascent)
@given(image=planes)
def test_fields_on_the_pixels_are_scipy_s_differences(image):
    close(particles.curl(device(image)), np.stack([slope(image, 0), -slope(image, 1)]), atol=1e-12)
    close(particles.ascent(device(image)), np.stack([slope(image, 1), slope(image, 0)]), atol=1e-12)


@verifies(particles.curl, particles.ascent)
@given(across=st.integers(-3, 3), down=st.integers(-3, 3), phase=st.floats(0, 7))
def test_the_fields_of_a_wave_are_its_derivatives(across, down, phase):
    # Central differences make sin a / 1 out of a, where the wave turns by a from one pixel to the next.
    y, x = np.mgrid[:8, :12]
    a, b = 2 * math.pi * across / 12, 2 * math.pi * down / 8
    wave, slope = np.sin(a * x + b * y + phase), np.cos(a * x + b * y + phase)
    expected = np.stack([math.sin(b) * slope, -math.sin(a) * slope])
    close(particles.curl(device(wave)), expected, atol=1e-12)
    close(particles.ascent(device(wave)), np.stack([math.sin(a) * slope, math.sin(b) * slope]), atol=1e-12)


@verifies(particles.curl)
@given(potential=planes)
def test_a_curl_has_no_divergence(potential):
    across, down = host(particles.curl(device(potential)))
    close(slope(across, 1) + slope(down, 0), np.zeros(potential.shape), atol=1e-12)


@verifies(particles.interpolated)
@given(field=reals((2, 5, 7)), points=reals((20, 2), -15.0, 25.0))
def test_between_pixels_a_field_is_scipy_s_interpolation(field, points):
    where = points[:, ::-1].T - 0.5  # (row, column) from the centre of the first pixel
    expected = np.stack([map_coordinates(part, where, order=1, mode="grid-wrap") for part in field], axis=-1)
    close(particles.interpolated(device(field), device(points)), expected, rtol=1e-9, atol=1e-10)


# ---------------------------------------------------------------- the step in time


@verifies(particles.euler_maruyama, particles.midpoint)
@settings(max_examples=8)
@given(seed=seeds(), diffusion=st.floats(0.05, 4), dt=st.floats(0.01, 2), scheme=schemes)
def test_without_a_field_particles_spread_by_brown_s_law(seed, diffusion, dt, scheme):
    random, points = Stream(seed), device(np.zeros((3000, 2)))
    for _ in range(20):
        points = SCHEMES[scheme](points, still, dt, diffusion, random.normal((3000, 2)))
    points, time = host(points), 20 * dt
    squares = (points**2).sum(axis=1) / (2 * diffusion * time)  # χ² of two degrees of freedom
    assert abs(squares.mean() / 2 - 1) < 6 / math.sqrt(3000)  # E‖x‖² = 4 D T
    assert kstest(squares, chi2(2).cdf).pvalue > 1e-6
    for coordinate in points.T:
        assert kstest(coordinate / math.sqrt(2 * diffusion * time), "norm").pvalue > 1e-6


@verifies(particles.euler_maruyama, particles.midpoint)
@given(points=reals((5, 2)), noise=reals((5, 2)), dt=st.floats(0.01, 2), diffusion=st.floats(0, 3), scheme=schemes)
def test_in_an_even_wind_a_step_is_the_way_of_the_wind_and_the_noise(points, noise, dt, diffusion, scheme):
    def wind(points):
        return 0.0 * points + 1.5

    moved = SCHEMES[scheme](device(points), wind, dt, diffusion, device(noise))
    close(host(moved) - points, 1.5 * dt + np.sqrt(2 * diffusion * dt) * noise, atol=1e-12)


@verifies(particles.euler_maruyama, particles.midpoint)
@given(matrix=reals((2, 2), -1.0, 1.0), start=reals((4, 2)), scheme=schemes)
def test_the_error_of_a_linear_field_s_path_shrinks_by_the_order_of_the_scheme(matrix, start, scheme):
    order = 1 if scheme == "euler" else 2
    exact = start @ expm(matrix).T
    leading = exact @ np.linalg.matrix_power(matrix, order + 1).T  # what the error is in proportion to, for small Δt
    assume(np.abs(leading).max() > 0.2)
    errors = [
        np.linalg.norm(host(follow(scheme, linear(matrix), device(start), 1 / steps, steps)) - exact)
        for steps in (64, 128)
    ]
    assert 0.9 * 2**order < errors[0] / errors[1] < 1.1 * 2**order
    close(errors[1], np.linalg.norm(leading) / 128**order / (2 if order == 1 else 6), rtol=0.1)


@verifies(particles.euler_maruyama, particles.midpoint)
@given(stiffness=st.floats(0.2, 3), diffusion=st.floats(0.05, 4), scheme=schemes)
def test_ornstein_and_uhlenbeck_s_process_settles_to_the_variance_d_over_theta(stiffness, diffusion, scheme):
    def variance(dt):
        """Of the stationary law of x ← M x + G ξ, with M and G as the step tells them: V = M V Mᵀ + G Gᵀ."""
        step, units = SCHEMES[scheme], device(np.eye(2))
        kept = host(step(units, linear(-stiffness * np.eye(2)), dt, diffusion, 0.0))
        gain = host(step(0 * units, linear(-stiffness * np.eye(2)), dt, diffusion, units))
        return solve_discrete_lyapunov(kept.T, gain.T @ gain)

    dt, limit = 0.01 / stiffness, diffusion / stiffness * np.eye(2)
    close(variance(dt), limit, rtol=0.011)
    close(variance(dt / 100), limit, rtol=1.1e-4)


@verifies(particles.euler_maruyama, particles.midpoint)
@given(start=reals((4, 2), 0.5, 3.0), scheme=schemes)
def test_around_a_whirl_the_stream_function_is_kept_to_the_order_of_the_scheme(start, scheme):
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])  # ψ = (x² + y²) / 2

    def drift(steps):
        end = host(follow(scheme, linear(turn), device(start), 2 / steps, steps))
        return np.linalg.norm((end**2).sum(axis=1) / 2 - (start**2).sum(axis=1) / 2)

    power = 1 if scheme == "euler" else 3  # (1 + Δt²) at each step of Euler's, (1 + Δt⁴/4) of the midpoint rule's
    assert 0.9 * 2**power < drift(50) / drift(100) < 1.1 * 2**power


@verifies(particles.curl, particles.interpolated, particles.midpoint)
@settings(max_examples=5)
@given(seed=seeds())
def test_particles_in_curl_noise_stay_on_the_lines_of_the_stream_function(seed):
    potential = smooth_noise(device(np.random.default_rng(seed).standard_normal((64, 64))), 6.0)
    field, start = particles.curl(potential), np.random.default_rng(seed).uniform(0, 64, (40, 2))

    def height(points):
        return map_coordinates(host(potential), points[:, ::-1].T - 0.5, order=3, mode="grid-wrap")

    end = host(follow("midpoint", lambda points: particles.interpolated(field, points), device(start), 1.0, 150))
    assert np.abs(end - start).max() > 5
    assert np.abs(height(end) - height(start)).max() < 0.1 * np.ptp(host(potential))


# ---------------------------------------------------------------- the ink


def by_hats(points, ink, height, width):
    """The ink of every particle at every pixel, by the product of the two hats."""
    canvas = np.zeros((len(ink), height, width))
    for c, row, column in np.ndindex(canvas.shape):
        for (x, y), amount in zip(points, ink[c]):
            hats = max(0.0, 1 - abs(x - column - 0.5)) * max(0.0, 1 - abs(y - row - 0.5))
            canvas[c, row, column] += amount * hats
    return canvas


def splatted(points, ink, height, width):
    canvas = device(np.zeros((len(ink), height, width)))
    particles.splat(canvas, device(points), device(ink))
    return host(canvas)


@verifies(particles.splat)
@given(points=reals((9, 2), -2.0, 8.0), ink=reals((2, 9)))
def test_splatting_is_what_the_kernel_says_for_every_pixel(points, ink):
    close(splatted(points, ink, 5, 6), by_hats(points, ink, 5, 6), atol=1e-12)


@verifies(particles.splat)
@given(points=reals((30, 2), 0.5, 4.5), ink=reals((3, 30)))
def test_ink_is_neither_lost_nor_made(points, ink):
    close(splatted(points, ink, 5, 5).sum(axis=(1, 2)), ink.sum(axis=1), atol=1e-11)


@verifies(particles.splat)
@given(row=st.integers(0, 4), column=st.integers(0, 5))
def test_a_particle_on_a_pixel_s_centre_paints_that_pixel_alone(row, column):
    canvas = splatted(np.array([[column + 0.5, row + 0.5]]), np.array([[0.7]]), 5, 6)
    expected = np.zeros((1, 5, 6))
    expected[0, row, column] = 0.7
    close(canvas, expected)


@verifies(particles.splat)
@given(points=reals((12, 2), -1.0, 7.0), ink=reals((1, 12)), image=reals((5, 6)))
def test_splatting_is_the_transpose_of_scipy_s_interpolation(points, ink, image):
    there = map_coordinates(np.pad(image, 3), points[:, ::-1].T + 2.5, order=1)  # a margin, as nothing goes around
    close((splatted(points, ink, 5, 6)[0] * image).sum(), np.asarray((ink[0] * there).sum()), atol=1e-10)


def test_a_canvas_that_is_not_contiguous_is_refused():
    canvas = device(np.zeros((5, 4, 3)).transpose(2, 0, 1))
    with pytest.raises(ValueError, match="contiguous"):
        particles.splat(canvas, device(np.ones((1, 2))), device(np.ones((3, 1))))


@verifies(particles.ink_layer)
@given(amounts=reals((5, 3, 4), 0.0, 2.0), colours=reals((5, 3), 0.0, 1.0))
def test_ink_covers_as_drops_do_that_fall_at_random_and_has_their_mean_colour(amounts, colours):
    ink = np.concatenate([np.einsum("khw,kc->chw", amounts, colours), amounts.sum(axis=0)[None]])
    layer = host(particles.ink_layer(device(ink)))
    close(layer[-1], poisson.sf(0, ink[-1]))  # A drops on average: the chance of one at least
    for y, x in np.ndindex(3, 4):
        close(layer[:-1, y, x] / layer[-1, y, x], np.average(colours, axis=0, weights=amounts[:, y, x]))


@verifies(particles.ink_layer)
@given(ink=reals((4, 3, 4), 0.01, 1.0), parts=st.integers(1, 6))
def test_ink_laid_in_portions_is_the_ink_laid_at_once(ink, parts):
    canvas = device(0 * ink)
    for _ in range(parts):
        canvas = over_premultiplied(particles.ink_layer(device(ink / parts)), canvas)
    close(canvas, host(particles.ink_layer(device(ink))), rtol=1e-9)


def test_no_ink_is_nothing():
    close(particles.ink_layer(device(np.zeros((4, 2, 2), "float32"))), np.zeros((4, 2, 2), "float32"))


@verifies(particles.pressure)
@given(age=reals((20,), -0.5, 1.5), ink=st.floats(0.1, 3))
def test_a_bristle_presses_most_half_way_and_not_before_or_after(age, ink):
    expected = ink * (beta(2, 2).pdf(age) / 1.5) ** 0.4  # 6 s (1 − s), whose largest value is 3/2
    close(particles.pressure(device(age), ink), expected, atol=1e-12)


# ---------------------------------------------------------------- paintings


def make(**options):
    return particles.Particles(
        particles.Config(**{"size": 24, "particles": 200, "layers": 2} | options), None, Stream(0)
    )


@settings(max_examples=4)
@given(seed=seeds(), channels=st.sampled_from([1, 3]))
def test_a_sample_is_its_seed_s_and_each_image_its_own(seed, channels):
    model = make(channels=channels)
    images = model.sample(3, Stream(seed)).numpy()
    assert images.shape == (3, channels, 24, 24) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, model.sample(3, Stream(seed)).numpy())
    assert np.array_equal(images[:1], model.sample(1, Stream(seed)).numpy())
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images, model.sample(3, Stream(seed + 1)).numpy())
    with backend.using("numpy"):
        close(images, model.sample(3, Stream(seed)).numpy(), rtol=0, atol=1e-4)


@settings(max_examples=4)
@given(seed=seeds(), frames=st.integers(1, 6))
def test_a_film_ends_with_the_picture_and_begins_with_less_of_it(seed, frames):
    model = make(diffusion=0.0)
    film, image = model.animate(frames, 2, Stream(seed)).numpy(), model.sample(2, Stream(seed)).numpy()
    assert film.shape == (2, frames, 3, 24, 24) and film.dtype == np.float32
    assert film.min() >= 0 and film.max() <= 1
    assert np.array_equal(film[:, -1], image)
    away = np.abs(film - image[:, None]).mean(axis=(2, 3, 4))
    assert (away[:, 0] >= away[:, -1]).all() and (frames == 1 or away[:, 0].min() > 0)


def test_a_film_may_have_more_frames_than_there_are_steps():
    model = make(layers=1, length=0.1, step=1.0)
    assert model.steps == 2
    film = model.animate(5, 1, Stream(0)).numpy()[0]
    assert film.shape == (5, 3, 24, 24)
    same = [np.array_equal(a, b) for a, b in pairwise(film)]
    assert same == [True, False, True, False]  # 0, 0, 1, 1, 2 steps


def test_a_painting_never_waits_for_the_device():
    with backend.using("strict"), counting() as counts:
        make().sample(2, Stream(0))
    assert counts.synchronizations == counts.to_host == 0


@pytest.mark.parametrize("field", particles.FIELDS)
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_every_field_makes_paintings_that_are_not_blank(field, scheme):
    images = make(field=field, scheme=scheme).sample(2, Stream(1)).numpy()
    assert np.isfinite(images).all() and (np.ptp(images, axis=(1, 2, 3)) > 0.1).all()


@pytest.mark.parametrize("field", particles.FIELDS)
def test_a_field_is_about_one_fast(field):
    velocity = make(field=field, size=64, turbulence=0.0)._velocity(Stream(2, "", backend.NUMPY))
    places = np.random.default_rng(0).uniform(0, 64, (2000, 2)).astype("float32")
    assert 0.5 < math.sqrt((host(velocity(device(places))) ** 2).sum(axis=1).mean()) < 2


def test_a_source_drives_away_what_a_sink_draws_in():
    places = device(np.random.default_rng(0).uniform(0, 24, (50, 2)).astype("float32"))
    source, sink = (
        host(make(field=field, turbulence=0.0)._velocity(Stream(2, "", backend.NUMPY))(places))
        for field in ("source", "sink")
    )
    close(source, -sink, rtol=0, atol=1e-5)
    moved = host(places) + source
    assert np.ptp(moved, axis=0).min() > np.ptp(host(places), axis=0).max()


@pytest.mark.parametrize("colour", particles.COLOURS)
def test_colours_depend_on_what_they_are_to_depend_on(colour):
    first, second = np.zeros((3, 4), "float32"), np.ones((3, 4), "float32")
    brushes = particles.Brushes(device(np.zeros((4, 2))), device(np.stack([first, second])), device(np.ones(4)))
    age, velocity = np.array([0.0, 0.5, 1.0, 2.0]), np.array([[0.0, 0], [0.6, 0.8], [0, 2.0], [5, 0]])
    mixed = host(brushes.mixed(colour, device(age), device(velocity)))
    expected = {"palette": [0, 0, 0, 0], "age": [0, 0.5, 1, 1], "speed": [0, 0.5, 1, 1]}[colour]
    close(mixed.astype("float64"), np.tile(np.array(expected, float), (3, 1)))


def test_what_fades_is_nearer_to_the_ground():
    model, fading, bare = make(), make(fade=0.3), make(ink=0.01)
    images = [each.sample(4, Stream(5)).numpy() for each in (model, fading, bare)]
    assert np.abs(images[1] - images[2]).mean() < 0.5 * np.abs(images[0] - images[2]).mean()


def test_paintings_have_the_shape_of_the_data():
    data = DataSpec(name="wide", channels=1, height=20, width=37, count=1)
    model = particles.Particles(particles.Config(particles=100, layers=2), data, Stream(0))
    assert model.sample(2, Stream(0)).shape == (2, 1, 20, 37)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 7}, ("size", "8", "7")),
        ({"field": "curls"}, ("field", "curl", "curls")),
        ({"particles": 0}, ("particles", "1", "0")),
        ({"layers": 0}, ("layers", "1", "0")),
        ({"length": 0.0}, ("length", "0.01", "0.0")),
        ({"step": math.nan}, ("step", "0.05", "nan")),
        ({"diffusion": -1.0}, ("diffusion", "0.0", "-1.0")),
        ({"turbulence": 2.0}, ("turbulence", "1.0", "2.0")),
        ({"scheme": "heun"}, ("scheme", "midpoint", "heun")),
        ({"ink": 0.0}, ("ink", "0.01", "0.0")),
        ({"fade": 1.0}, ("fade", "0.5", "1.0")),
        ({"light": "dusk"}, ("light", "day", "dusk")),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_a_hint(options, words):
    with pytest.raises(UsageError) as caught:
        particles.Config(**options)
    assert all(word in caught.value.message for word in ("particles", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


def test_films_and_samples_of_nothing_are_refused():
    with pytest.raises(UsageError, match="1 frame or more, got 0"):
        make().animate(0, 1, Stream(0))
    with pytest.raises(UsageError, match="at least 1, got 0"):
        make().animate(3, 0, Stream(0))
