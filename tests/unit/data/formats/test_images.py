import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sfumato.data.formats.archives import opened_files
from sfumato.data.formats.images import Decoding, decode, read_images
from sfumato.errors import DataError, UsageError


def save(array: np.ndarray, kind="PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def test_pixels_come_channels_first():
    array = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    read = decode(save(array), "x", Decoding())
    assert read.dtype == np.uint8
    assert (read == array.transpose(2, 0, 1)).all()


def test_grey_is_one_channel_and_size_is_height_by_width():
    assert decode(save(np.full((4, 6), 9, np.uint8)), "x", Decoding("grey")).tolist() == [[[9] * 6] * 4]
    assert decode(save(np.zeros((4, 6), np.uint8)), "x", Decoding("rgb", size=(5, 7))).shape == (3, 5, 7)


def test_a_bomb_is_refused_before_it_is_decoded():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (10_000, 60_000):  # the second is beyond Pillow's own limit too
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        with pytest.raises(DataError, match=r"pixels at 'bomb.png'.*attack"):
            decode(bomb, "'bomb.png'", Decoding())


def test_the_limit_on_pixels_is_ours_not_only_pillows(png):
    assert decode(png(), "x", Decoding(max_pixels=16)).shape == (3, 4, 4)
    with pytest.raises(DataError, match=r"at most 15 pixels at x, got 4 x 4"):
        decode(png(), "x", Decoding(max_pixels=15))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_cut_off_image_is_named(kind):
    data = save(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8), kind)
    with pytest.raises(DataError, match=r"whole image at 'cat.x'"):
        decode(data[: len(data) // 2], "'cat.x'", Decoding())


def test_other_bytes_deep_pixels_and_films_are_refused():
    with pytest.raises(DataError, match=r"bytes of another kind"):
        decode(b"%PDF-1.4", "x", Decoding())
    with pytest.raises(DataError, match=r"8 bits a channel"):
        decode(save(np.full((4, 4), 40_000, np.uint16)), "x", Decoding())
    stream = io.BytesIO()
    frames = [Image.new("L", (4, 4), shade) for shade in (0, 255)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"still image"):
        decode(stream.getvalue(), "x", Decoding())


def test_mixed_sizes_name_both_files_unless_a_size_is_given(zipped, png):
    path = zipped({"a.png": png(1), "b.png": png(2, size=(5, 4))})
    with opened_files(path) as files:
        with pytest.raises(DataError, match=r"4 x 4 at 'a.png' in data.zip and 5 x 4 at 'b.png'.*size="):
            read_images(files, files.names, Decoding())
        images = read_images(files, files.names, Decoding(size=(4, 4)))
    assert images[:, 0, 0, 0].tolist() == [1, 2]


def test_a_set_that_would_fill_the_memory_is_refused(zipped, png):
    with opened_files(zipped({"a.png": png(), "b.png": png()})) as files, pytest.raises(DataError, match=r"2 of 48"):
        read_images(files, files.names, Decoding(max_bytes=95))


def test_bad_options_are_refused():
    with pytest.raises(UsageError, match=r"`colour`"):
        Decoding("gray")
    with pytest.raises(UsageError, match=r"\(height, width\)"):
        Decoding(size=(0, 4))
