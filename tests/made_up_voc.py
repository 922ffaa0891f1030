"""A small made-up VOCdevkit: filled shapes of three classes on noise."""

from pathlib import Path

import numpy as np
from PIL import Image

# Class, colour.
THINGS = {"aeroplane": (230, 40, 40), "cat": (40, 220, 60), "tvmonitor": (50, 70, 240)}
SHAPE = (96, 128)  # height, width


def make_voc(root: Path, train: int = 12, test: int = 12, seed: int = 0) -> Path:
    """Write ``train`` images to each trainval list and ``test`` to VOC2007's test list."""
    generator = np.random.default_rng(seed)
    counts = [("2007", "trainval", train), ("2012", "trainval", train), ("2007", "test", test)]
    for year, part, count in counts:
        folder = root / "VOCdevkit" / f"VOC{year}"
        for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        names = [f"{year}_{part}_{i:06d}" for i in range(count)]
        (folder / f"ImageSets/Main/{part}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            pixels, objects = draw(generator)
            Image.fromarray(pixels).save(folder / f"JPEGImages/{name}.jpg", quality=95)
            (folder / f"Annotations/{name}.xml").write_text(describe(name, objects))
    return root


def draw(generator: np.random.Generator) -> tuple[np.ndarray, list[tuple]]:
    """Pixels, and (class, edges counted from 1 with the last included, difficult) of objects."""
    height, width = SHAPE
    pixels = generator.integers(90, 160, (height, width, 3), dtype=np.uint8)
    objects = []
    for half in range(int(generator.integers(1, 3))):  # each in its half of the image
        h, w = generator.integers(28, 56, 2)
        top = int(generator.integers(0, height - h))
        left = int(generator.integers(0, width // 2 - w + 1)) + half * width // 2
        name = list(THINGS)[int(generator.integers(len(THINGS)))]
        pixels[top : top + h, left : left + w] = THINGS[name]
        difficult = int(generator.random() < 0.1)
        objects.append((name, (left + 1, top + 1, left + int(w), top + int(h)), difficult))
    return pixels, objects


def describe(name: str, objects: list[tuple]) -> str:
    """The annotation in VOC's format, parts and empty fields as VOC has them."""
    height, width = SHAPE
    things = "".join(
        f"""
	<object>
		<name>{thing}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>{difficult}</difficult>
		<bndbox>
			<xmin>{box[0]}</xmin>
			<ymin>{box[1]}</ymin>
			<xmax>{box[2]}</xmax>
			<ymax>{box[3]}</ymax>
		</bndbox>
	</object>"""
        for thing, box, difficult in objects
    )
    return f"""<annotation>
	<folder>VOC</folder>
	<filename>{name}.jpg</filename>
	<source>
		<database>made up</database>
	</source>
	<size>
		<width>{width}</width>
		<height>{height}</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>{things}
</annotation>
"""
