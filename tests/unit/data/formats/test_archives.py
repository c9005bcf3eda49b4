import io
import stat
import tarfile
import zipfile

import pytest

from sfumato.data.formats.archives import Limits, opened_files
from sfumato.errors import DataError


def tar(path, members: dict[str, bytes], link: str = ""):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return path


MEMBERS = {"b/2.txt": b"two", "a/1.txt": b"one", ".DS_Store": b"x", "__MACOSX/a/1.txt": b"x"}


def test_folder_zip_and_tar_read_alike(tmp_path, zipped):
    folder = tmp_path / "folder"
    for name, content in MEMBERS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for path in (folder, zipped(MEMBERS), tar(tmp_path / "t.tar.gz", MEMBERS)):
        with opened_files(path) as files:
            assert files.names == ("a/1.txt", "b/2.txt")
            assert files.read("b/2.txt") == b"two"
            assert files.place("b/2.txt") == f"'b/2.txt' in {path.name}"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil", "C:/evil"])
def test_members_that_would_escape_are_refused(tmp_path, zipped, name):
    for path in (zipped({"ok": b"", name: b"x"}), tar(tmp_path / "t.tar.gz", {name: b"x"})):
        with pytest.raises(DataError, match=r"leads out of the archive's folder"), opened_files(path):
            pass
    assert not (tmp_path.parent / "evil").exists()


def test_links_are_refused(tmp_path):
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    for bad in (path, tar(tmp_path / "t.tar.gz", {}, link="/etc/passwd")):
        with pytest.raises(DataError, match=r"'link': a link or device"), opened_files(bad):
            pass
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "sub").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"links to folders"), opened_files(folder):
        pass


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, zipped):
    big = {"a": bytes(5000), "b": bytes(5000)}
    for path in (zipped(big), tar(tmp_path / "t.tar.gz", big)):
        with pytest.raises(DataError, match=r"at most 4999 bytes for 'a'"), opened_files(path, Limits(one=4999)):
            pass
        with (
            pytest.raises(DataError, match=r"9999 bytes in .*, got 2 and 10000"),
            opened_files(path, Limits(total=9999)),
        ):
            pass
        with pytest.raises(DataError, match=r"at most 1 files"), opened_files(path, Limits(files=1)):
            pass


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_declared(zipped):
    path = zipped({"a": bytes(100_000)})
    data = path.read_bytes()
    path.write_bytes(data.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with (
        opened_files(path, Limits(one=1000)) as files,
        pytest.raises(DataError, match=r"Expected to read 'a' in data.zip"),
    ):
        files.read("a")


def test_damaged_archives_are_named(tmp_path, zipped):
    path = zipped({"a": bytes(range(256)) * 40})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"whole zip or a whole tar archive at '.*data.zip'"), opened_files(path):
        pass
    path.write_bytes(whole[:40] + b"\xff" * 40 + whole[80:])
    with opened_files(path) as files, pytest.raises(DataError, match=r"read 'a' in data.zip.*damaged or encrypted"):
        files.read("a")
    cut = tar(tmp_path / "t.tar.gz", {"a": bytes(range(256)) * 4000})
    cut.write_bytes(cut.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"whole tar archive at '.*t.tar.gz'"), opened_files(cut):
        pass
