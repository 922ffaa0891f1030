"""Finding and reading image files, good and bad."""

import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from star_head import _processors
from star_head.examples.data.image_files import (
    Conversion,
    ImageFiles,
    in_processes,
    read_image,
    read_size,
    readable,
)
from star_head.examples.data.image_folder import find_images


def picture(height: int = 6, width: int = 8, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in find_images(root)]


def test_finds_images_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.png", "b/10.JPG", "b/a/x.Jpeg", "a b/1.tiff", "a/z.webp", "z.bmp", "Y.PGM")
    touch(tmp_path, "notes.txt", "png", "b/movie.mp4", "a/page.gif", "a/README")
    touch(tmp_path, ".hidden.png", "._z.bmp", ".thumbnails/1.png", "a/.cache/2.png")
    (tmp_path / "folder.png").mkdir()
    touch(tmp_path, "folder.png/inside.png")
    assert found(tmp_path) == [
        "Y.PGM",
        "z.bmp",
        "a/page.gif",
        "a/z.webp",
        "a b/1.tiff",
        "b/10.JPG",
        "b/2.png",
        "b/a/x.Jpeg",
        "folder.png/inside.png",
    ]


def test_order_of_class_folders_is_torchvisions(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    names = np.random.default_rng(0).permutation(30)
    touch(tmp_path, *(f"{'cba'[i % 3]}/{'inner/' * (i % 2)}{i}.png" for i in names))
    assert list(map(str, find_images(tmp_path))) == [p for p, _ in ImageFolder(tmp_path).samples]


def test_follows_links_but_no_loops(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    touch(root, "cats/1.png")
    touch(elsewhere, "deep/2.png", "3.png")
    (root / "dogs").symlink_to(elsewhere)
    (root / "favourite.png").symlink_to(elsewhere / "3.png")
    (root / "cats/all").symlink_to(root)
    (elsewhere / "again").symlink_to(elsewhere)
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "gone").symlink_to("nowhere")
    (root / "self.png").symlink_to("self.png")
    assert found(root) == [
        "favourite.png",
        "gone.png",
        "self.png",
        "cats/1.png",
        "dogs/3.png",
        "dogs/deep/2.png",
    ]
    for name in ("gone.png", "self.png"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read_image(root / name)


def test_links_to_each_other_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a/to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b/to_a").symlink_to(tmp_path / "a")
    assert found(tmp_path) == ["a/1.png", "a/to_b/2.png", "b/2.png", "b/to_a/1.png"]


def test_names_of_any_characters(tmp_path: Path) -> None:
    names = ["été.png", "日本.png", "a b'\"\n.png", os.fsdecode(b"\xff\xfe.png")]
    try:
        for name in names:
            picture().save(tmp_path / name)
    except OSError:
        pytest.skip("this file system has no such names")
    files = ImageFiles(find_images(tmp_path))
    assert len(files) == 4
    assert all(files[i].size == (8, 6) for i in range(4))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", ".png"),
        ("RGB", ".bmp"),
        ("RGB", ".ppm"),
        ("RGB", ".tif"),
        ("L", ".png"),
        ("L", ".pgm"),
        ("LA", ".png"),
        ("1", ".png"),
        ("P", ".png"),
        ("RGBA", ".png"),
        ("RGBA", ".tif"),
        ("CMYK", ".tif"),
        ("CMYK", ".jpg"),
        ("L", ".jpg"),
        ("RGB", ".webp"),
    ],
)
def test_modes(tmp_path: Path, mode: str, suffix: str) -> None:
    # Smooth, so that what JPEG and WebP lose is little.
    ramp = np.linspace(20, 220, 32).astype(np.uint8)
    pixels = np.stack(
        [np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32)), np.full((32, 32), 80)]
    )
    image = Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8)).convert(mode)
    path = tmp_path / f"image{suffix}"
    image.save(path, **({"quality": 95} if suffix in (".jpg", ".webp") else {}))
    read = read_image(path)
    assert (read.mode, read.size, read_size(path)) == ("RGB", (32, 32), (32, 32))
    difference = np.abs(np.array(read).astype(int) - np.array(image.convert("RGB")))
    assert difference.mean() < (4 if suffix in (".jpg", ".webp") else 1e-9)


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = picture().quantize(16)
    image.save(tmp_path / "a.png", transparency=3)
    assert np.array_equal(np.array(read_image(tmp_path / "a.png")), np.array(image.convert("RGB")))


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [("u2", ".png"), ("u2", ".tif"), ("i4", ".tif"), ("f4", ".tif"), ("u2", ".jp2")],
)
def test_more_than_8_bits_need_a_range(tmp_path: Path, dtype: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    values = np.linspace(0, 4095, 64).reshape(8, 8).astype(dtype)
    Image.fromarray(values).save(path)
    message = f"data_dir: {path} cannot be read: it has mode .*pixels from 0 to 4095.*pixel_range="
    with pytest.raises(ValueError, match=message) as raised:
        read_image(path)
    assert "restore" not in str(raised.value)
    read = np.array(read_image(path, Conversion(pixel_range=(0, 4095))))
    assert np.abs(read[..., 0] - values / 4095 * 255).max() < 0.6
    assert ImageFiles([path]).sizes(np.arange(1)) == [(8, 8)]


def test_a_background_is_under_what_is_transparent(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 6), (255, 0, 0, 0)).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", Conversion(background=(0, 0, 255)))
    assert np.unique(np.array(read).reshape(-1, 3), axis=0).tolist() == [[0, 0, 255]]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    dark, light = (20, 20, 20), (230, 230, 230)
    image = Image.new("RGB", (32, 16), dark)
    image.paste(light, (0, 0, 16, 8))  # the stored image's corner, top left
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a{suffix}"
    image.save(path, exif=exif)
    read = read_image(path)
    assert read.size == ((16, 32) if orientation >= 5 else (32, 16))
    assert read_size(path) == read.size[::-1]
    # Where EXIF says that the stored row 0 and column 0 meet: top or bottom, left or right.
    corner_lit = {
        1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl",
    }[orientation]  # fmt: skip
    pixels = np.array(read.convert("L")).astype(float)
    half = pixels.shape[0] // 2, pixels.shape[1] // 2
    corners = {
        "tl": pixels[: half[0], : half[1]],
        "tr": pixels[: half[0], half[1] :],
        "bl": pixels[half[0] :, : half[1]],
        "br": pixels[half[0] :, half[1] :],
    }
    for name, corner in corners.items():
        assert corner.mean() == pytest.approx(230 if name == corner_lit else 20, abs=25), name


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_exif_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture(6, 8).save(path)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    content, end = path.read_bytes(), chunk(b"IEND", b"")
    assert content.endswith(end)
    path.write_bytes(
        content.removesuffix(end) + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + end
    )
    assert read_image(path).size == (6, 8)
    assert read_size(path) == (8, 6)


def test_broken_exif_is_passed_over(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg", exif=b"Exif\0\0no TIFF header")
    assert read_image(tmp_path / "a.jpg").size == (8, 6)
    assert read_size(tmp_path / "a.jpg") == (6, 8)


def test_sizes_decode_nothing(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".bmp", ".webp"):
        picture(6, 8).save(tmp_path / f"a{suffix}")
    for cut in (".png", ".jpg", ".bmp"):
        path = tmp_path / f"a{cut}"
        path.write_bytes(path.read_bytes()[:-20])
    for path in find_images(tmp_path):
        assert read_size(path) == (6, 8)


def spoil(root: Path) -> dict[str, str]:
    """Files of every kind that cannot be read, and what the error says of each."""
    picture(64, 64).save(root / "whole.jpg")
    picture(64, 64).save(root / "whole.png")
    for suffix in ("jpg", "png"):
        whole = (root / f"whole.{suffix}").read_bytes()
        (root / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    (root / "empty.png").touch()
    (root / "text.jpg").write_text("no image")
    (root / "gone.png").symlink_to(root / "nowhere")
    picture(1, 8).save(root / "thin.png")
    header = b"P6 20000 20000 255\n"
    (root / "huge.ppm").write_bytes(header)
    return {
        "cut.jpg": "image file is truncated.*; restore the file, or",
        "cut.png": "truncated.*; restore the file, or",
        "empty.png": "the file is empty; restore the file, or",
        "text.jpg": "its content is no image that Pillow knows; restore the file, or",
        "gone.png": "No such file or directory; restore the file, or",
        "thin.png": "expected sides of at least 2 pixels.*; restore the file, or",
        "huge.ppm": r"400000000 pixels.*where you trust it.*PIL\.Image\.MAX_IMAGE_PIXELS",
    }


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    for name, reason in spoil(tmp_path).items():
        with pytest.raises(
            ValueError,
            match=rf"data_dir: \S*/{name} cannot be read: .*{reason}",
        ):
            read_image(tmp_path / name)


def test_pillows_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (100, 60)).save(tmp_path / "map.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)
    for read in (read_image, read_size):
        with pytest.raises(ValueError, match="6000 pixels.*MAX_IMAGE_PIXELS.*2500") as raised:
            read(tmp_path / "map.png")
        assert "restore" not in str(raised.value)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    assert read_image(tmp_path / "map.png").size == (100, 60)


def test_pillows_limit_reaches_processes_that_are_not_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (100, 60)).save(tmp_path / "map.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)  # at the start of the other process
    files = ImageFiles([tmp_path / "map.png"])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    sent = pickle.dumps(files)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)
    assert pickle.loads(sent)[0].size == (100, 60)


def test_a_file_one_may_not_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    if os.access(tmp_path / "a.png", os.R_OK):
        pytest.skip("permissions do not bind this user")
    with pytest.raises(ValueError, match="a.png cannot be read: Permission denied"):
        read_image(tmp_path / "a.png")


def test_readable_leaves_out_and_warns_once(tmp_path: Path) -> None:
    bad = spoil(tmp_path)
    paths = find_images(tmp_path)
    good = [i for i, path in enumerate(paths) if path.name not in bad]
    with pytest.warns(UserWarning, match="left out") as warned:
        assert readable(paths).tolist() == good
    (message,) = (str(w.message) for w in warned if "left out" in str(w.message))
    assert message.startswith(f"7 of 9 images cannot be read and are left out: {paths[0]} (")
    assert message.count(str(tmp_path)) == 5
    assert message.endswith(", ...")


def test_readable_in_processes(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for i in range(200):
        picture(seed=i).save(tmp_path / f"{i:03}.png")
    paths = find_images(tmp_path)
    state = torch.get_rng_state()
    assert readable(paths).tolist() == list(range(200))
    assert torch.equal(torch.get_rng_state(), state)
    # Since 3.12, Python warns of a fork beside threads, which PyTorch's loaders do.
    assert not [warned for warned in recwarn if warned.category is not DeprecationWarning]
    for i in (5, 150):
        paths[i].write_bytes(b"")
    with pytest.warns(UserWarning, match=r"2 of 200 .*005.png \(the file is empty\), \S*150.png"):
        assert readable(paths).tolist() == [i for i in range(200) if i not in (5, 150)]


def test_nothing_readable(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.jpg")
    with pytest.raises(ValueError, match=r"data_dir: none of 2 images can be read: \S*a.png \(the"):
        readable(find_images(tmp_path))


def test_results_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_processors.os, "sched_getaffinity", lambda _: range(2), raising=False)
    assert list(in_processes(abs, range(-300, 0), "")) == list(range(300, 0, -1))


def test_sizes_of_a_data_set_leave_out_bad_headers(tmp_path: Path) -> None:
    picture(4, 5).save(tmp_path / "a.png")
    touch(tmp_path, "b.png")
    picture(6, 7).save(tmp_path / "c.png")
    assert ImageFiles(find_images(tmp_path)).sizes(np.arange(3)) == [(4, 5), (6, 7)]


@pytest.mark.parametrize(
    ("count", "available", "expected"), [(6, None, 6), (None, None, 1), (6, {0, 3}, 2)]
)
def test_processors_of_the_machine_where_the_system_does_not_say_which(
    monkeypatch: pytest.MonkeyPatch, count: int | None, available: set | None, expected: int
) -> None:
    if available is None:  # macOS and Windows
        monkeypatch.delattr(_processors.os, "sched_getaffinity", raising=False)
    else:
        monkeypatch.setattr(_processors.os, "sched_getaffinity", lambda _: available, raising=False)
    monkeypatch.setattr(_processors.os, "cpu_count", lambda: count)
    assert _processors.available_processors() == expected
