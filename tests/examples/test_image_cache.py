"""The cache of decoded images: whole, current, or not there."""

import multiprocessing
import os
import pickle
import signal
import warnings
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ExifTags, Image
from torch.utils.data import DataLoader

from star_head.examples.data import image_cache
from star_head.examples.data.image_cache import CachedImages, cache_images
from star_head.examples.data.image_data import load_images
from star_head.examples.data.image_files import read_image
from star_head.examples.data.image_folder import find_images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of several sizes, modes and orientations."""
    root = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for i in range(12):
        path = root / "ab"[i % 2] / f"{i:02}.{('png', 'jpg')[i % 3 == 0]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (5 + i % 4, 9 - i % 3, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 1 + i % 8
        Image.fromarray(pixels).convert("L" if i == 5 else "RGB").save(path, exif=exif)
    return root


def spoil(photos: Path, *places: int) -> None:
    for i in places:
        path = find_images(photos)[i]
        path.write_bytes(path.read_bytes()[:-30])


def check(images: CachedImages, paths: list[Path], indices: np.ndarray) -> None:
    for i in indices:
        image = read_image(paths[i])
        assert images.sizes(indices[indices == i]) == [image.size[::-1]]
        assert images[i].mode == "RGB"
        assert np.array_equal(np.array(images[i]), np.array(image))


def never(*_: object, **__: object) -> None:
    raise AssertionError("decodes again")


def test_gives_what_the_files_give(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = find_images(photos)
    images, kept = cache_images(paths, tmp_path / "new/cache")
    assert kept.tolist() == list(range(12))
    check(images, paths, kept)
    assert [path.is_dir() for path in (tmp_path / "new/cache").iterdir()] == [True]

    monkeypatch.setattr(image_cache, "_build", never)
    again, kept = cache_images(paths, tmp_path / "new/cache")
    check(again, paths, kept)


def test_is_pickled_by_name(photos: Path, tmp_path: Path) -> None:
    paths = find_images(photos)
    images, kept = cache_images(paths, tmp_path / "cache")
    pickled = pickle.dumps(images)
    assert len(pickled) < 1000
    check(pickle.loads(pickled), paths, kept)


def test_loader_workers_read_no_image_file(photos: Path, tmp_path: Path) -> None:
    files = load_images("folder", photos).pretrain
    expected = [(np.array(image), label) for image, label in (files[i] for i in range(12))]
    cached = load_images("folder", photos, cache=tmp_path / "cache").pretrain
    for path in find_images(photos):
        path.unlink()
    loader = DataLoader(cached.with_transform(np.array), batch_size=None, num_workers=2)
    for (pixels, label), (expected_pixels, expected_label) in zip(loader, expected, strict=True):
        assert np.array_equal(pixels, expected_pixels)
        assert label == expected_label
    assert cached.image_sizes() == [pixels.shape[:2] for pixels, _ in expected]


def change_pixels(path: Path) -> None:
    status = path.stat()
    content = bytearray(path.read_bytes())
    path.write_bytes(content)  # as many bytes, changed later
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize(
    "change",
    [
        change_pixels,
        lambda path: Image.new("RGB", (3, 3)).save(path),
        lambda path: path.rename(path.with_name("99.png")),
        lambda path: path.unlink(),
    ],
    ids=["time", "content", "name", "gone"],
)
def test_is_never_stale(photos: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    before, _ = cache_images(find_images(photos), tmp_path / "cache")
    change(find_images(photos)[3])
    paths = find_images(photos)
    images, kept = cache_images(paths, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    check(images, paths, kept)
    assert len(before) == 12


@pytest.mark.parametrize(
    "break_it", ["cut pixels", "cut index", "foreign", "file", "empty", "half"]
)
def test_what_is_no_whole_cache_is_made_anew(photos: Path, tmp_path: Path, break_it: str) -> None:
    paths, folder = find_images(photos), tmp_path / "cache"
    cache_images(paths, folder)
    (place,) = folder.iterdir()
    pixels, index = place / "pixels.bin", place / "index.npy"
    if break_it == "cut pixels":
        os.truncate(pixels, pixels.stat().st_size - 1)
    elif break_it == "cut index":
        os.truncate(index, index.stat().st_size - 1)
    elif break_it == "foreign":
        np.save(index, np.array([{"not": "numbers"}]), allow_pickle=True)
    elif break_it == "half":
        np.save(index, np.load(index)[:6])
    else:
        pixels.unlink()
        index.unlink()
        if break_it == "file":
            place.rmdir()
            place.write_text("something else")
    images, kept = cache_images(paths, folder)
    check(images, paths, kept)
    assert list(folder.iterdir()) == [place]


@pytest.mark.parametrize("at", ["_decode", "_publish"])
def test_an_interrupted_build_leaves_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(image_cache, at, interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache_images(find_images(photos), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


# A forked process need not import anything.
FORK = multiprocessing.get_context("fork")


def build_and_die(paths: list[Path], folder: Path) -> None:
    decode, seen = image_cache._decode, []

    def dying(*arguments: object) -> object:
        seen.append(arguments)
        if len(seen) == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(*arguments)

    image_cache._decode = dying
    cache_images(paths, folder)


def test_a_killed_build_leaves_no_cache(photos: Path, tmp_path: Path) -> None:
    paths, folder = sorted(photos.rglob("*.*")), tmp_path / "cache"
    builder = FORK.Process(target=build_and_die, args=(paths, folder))
    builder.start()
    builder.join()
    assert builder.exitcode == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert left.name.startswith(".")
    images, kept = cache_images(paths, folder)
    check(images, paths, kept)


def build_and_sum(photos: Path, cache: Path, together: Barrier, sums: SimpleQueue) -> None:
    together.wait()
    images = load_images("folder", photos, cache=cache).pretrain
    sums.put(sum(sum(images[i][0].tobytes()) for i in range(len(images))))


def test_two_processes_at_once(photos: Path, tmp_path: Path) -> None:
    together, sums = FORK.Barrier(2), FORK.SimpleQueue()
    arguments = (photos, tmp_path / "cache", together, sums)
    builders = [FORK.Process(target=build_and_sum, args=arguments) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0]
    expected = sum(sum(read_image(p).tobytes()) for p in find_images(photos))
    assert [sums.get(), sums.get()] == [expected, expected]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_another_process_was_there_first(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, publish = find_images(photos), image_cache._publish

    def late(*arguments: object) -> None:
        monkeypatch.setattr(image_cache, "_publish", publish)
        cache_images(paths, tmp_path / "cache")
        publish(*arguments)

    monkeypatch.setattr(image_cache, "_publish", late)
    images, kept = cache_images(paths, tmp_path / "cache")
    check(images, paths, kept)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_images_that_change_meanwhile(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, decode = find_images(photos), image_cache._decode

    def decode_and_change(*arguments: object) -> object:
        result = decode(*arguments)
        with open(paths[0], "ab") as file:
            file.write(b"more")
        return result

    monkeypatch.setattr(image_cache, "_decode", decode_and_change)
    with pytest.raises(ValueError, match="images changed while"):
        cache_images(paths, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_disk_without_room(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = find_images(photos)
    needed = sum(len(read_image(path).tobytes()) for path in paths)
    usage = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=f"cache: .* need {needed} bytes, and .* {needed - 1} free"):
        cache_images(paths, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    usage.free = needed
    cache_images(paths, tmp_path / "cache")


def test_unreadable_images_are_errors_or_left_out(photos: Path, tmp_path: Path) -> None:
    spoil(photos, 3, 11)
    paths, folder = find_images(photos), tmp_path / "cache"
    with pytest.raises(ValueError, match=f"{paths[3].name} cannot be read: .*skip_unreadable"):
        cache_images(paths, folder)
    assert list(folder.iterdir()) == []
    for _ in range(2):  # built, opened
        with pytest.warns(UserWarning, match=f"2 of 12 images .* left out: .*{paths[3].name}"):
            images, kept = cache_images(paths, folder, skip_unreadable=True)
        assert kept.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
        check(images, paths, kept)
    with pytest.raises(ValueError, match=f"{paths[3].name} cannot be read: .*skip_unreadable"):
        cache_images(paths, folder)


def test_images_that_could_not_be_read_only_then(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, try_read = find_images(photos), image_cache.try_read
    with monkeypatch.context() as patched:
        for name, good in (("try_read", try_read), ("why_unreadable", image_cache.why_unreadable)):
            patched.setattr(
                image_cache,
                name,
                lambda p, how, good=good: "gone" if p == paths[2] else good(p, how),
            )
        with pytest.warns(UserWarning, match="1 of 12"):
            cache_images(paths, tmp_path / "cache", skip_unreadable=True)
    images, kept = cache_images(paths, tmp_path / "cache")
    assert len(kept) == 12
    check(images, paths, kept)


def test_nothing_readable(photos: Path, tmp_path: Path) -> None:
    for path in find_images(photos):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of 12 images can be read"):
        cache_images(find_images(photos), tmp_path / "cache", skip_unreadable=True)
    assert list((tmp_path / "cache").iterdir()) == []


def test_builds_in_processes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(150):
        pixels = generator.integers(0, 256, (4 + i % 5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{i:03}.png")
    (tmp_path / "photos/149.png").write_bytes(b"")
    paths = find_images(tmp_path / "photos")
    with pytest.raises(ValueError, match="149.png cannot be read: the file is empty"):
        cache_images(paths, tmp_path / "cache")
    with pytest.warns(UserWarning, match="1 of 150"):
        images, kept = cache_images(paths, tmp_path / "cache", skip_unreadable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(images, paths, kept)


def test_cache_that_is_a_file(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(ValueError, match="cache: expected a folder, got the file"):
        cache_images(find_images(photos), tmp_path / "cache")
