"""What is found in folders of photos as people have them."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unicodedata

import numpy as np
import pytest
from PIL import Image

from keras_amalgam import data
from keras_amalgam.export.verification.encoded import collect
from keras_amalgam.images.folders import class_folders, walk
from keras_amalgam.images.pillow_files import extensions

RNG = np.random.default_rng(0)


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (4, 5, 3)).astype("uint8")).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two photos, beside which the tests put what people have."""
    photo(tmp_path / "photos" / "a.png")
    photo(tmp_path / "photos" / "b.png")
    return tmp_path / "photos"


def found_in(folder):
    return [str(file.relative_to(folder)) for file in walk(folder).files]


def linked_folder(photos):
    photo(photos.parent / "disk" / "x.png")
    photo(photos.parent / "disk" / "sub" / "y.png")
    (photos / "day").symlink_to(photos.parent / "disk")
    return ["a.png", "b.png", "day/sub/y.png", "day/x.png"], {}


def linked_file(photos):
    (photos / "c.png").symlink_to(photo(photos.parent / "disk" / "x.png"))
    return ["a.png", "b.png", "c.png"], {}


def link_to_a_link(photos):
    photo(photos.parent / "disk" / "x.png")
    (photos.parent / "way").symlink_to(photos.parent / "disk")
    (photos / "day").symlink_to(photos.parent / "way")
    return ["a.png", "b.png", "day/x.png"], {}


def loops(photos):
    (photos / "sub").mkdir()
    (photos / "sub" / "up").symlink_to(photos)
    (photos / "sub" / "self").symlink_to(photos / "sub")
    (photos / "further_up").symlink_to(photos.parent)
    return ["a.png", "b.png"], {"linked again": 3}


def links_between_folders(photos):
    for one, other in (("one", "other"), ("other", "one")):
        photo(photos / one / "x.png")
        (photos / one / "link").symlink_to(photos / other)
    return ["a.png", "b.png", "one/x.png", "other/x.png"], {"linked again": 2}


def twice_by_links(photos):
    disk = photos.parent / "disk"
    photo(disk / "x.png")
    for name in ("first", "second"):
        (photos / name).symlink_to(disk)
    (photos / "a_copy.png").symlink_to(photos / "a.png")
    (photos / "0.png").symlink_to(disk / "x.png")
    return ["0.png", "a.png", "b.png"], {"linked again": 3}


def hidden(photos):
    photo(photos / ".thumbnails" / "c.png")
    photo(photos / "sub" / ".ipynb_checkpoints" / "d.png")
    (photos / "._a.png").write_bytes(b"of a file manager")
    return ["a.png", "b.png"], {"hidden": 3}


def folders_like_files(photos):
    photo(photos / "album.jpg" / "c.png")
    photo(photos / "notes.txt" / "d.png")
    return ["a.png", "album.jpg/c.png", "b.png", "notes.txt/d.png"], {}


def other_files(photos):
    for name in ("README.md", "list.TXT", "list2.txt", "film.mp4", "raw.NEF", "LICENSE", "p.pdf"):
        (photos / name).write_text("no image")
    os.mkfifo(photos / "pipe.png")
    passed = {".md": 1, ".txt": 2, ".mp4": 1, ".nef": 1, ".pdf": 1, "without extension": 1}
    return ["a.png", "b.png"], passed | {"neither file nor folder": 1}


def upper_case_and_all_formats(photos):
    names = ["C.PNG", "d.JpG", "e.tiff", "f.webp", "g.avif", "h.jp2", "i.ppm", "j.bmp", "k.gif"]
    for name in names:
        photo(photos / name)
    return sorted(["a.png", "b.png", *names]), {}


CASES = [
    linked_folder,
    linked_file,
    link_to_a_link,
    loops,
    links_between_folders,
    twice_by_links,
    hidden,
    folders_like_files,
    other_files,
    upper_case_and_all_formats,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_walk_finds_each_image_once_and_counts_what_it_passes_over(photos, case):
    files, passed_over = case(photos)
    found = walk(photos)
    assert [str(file.relative_to(photos)) for file in found.files] == files
    assert found.passed_over == passed_over and found.lost == {}
    assert found.warning() == "" and bool(found.note()) == bool(passed_over)
    for kind, count in passed_over.items():
        assert f"{count} {kind}" in found.note()


@pytest.mark.matrix
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_sources_and_verification_find_what_the_walk_finds(photos, case):
    files, _ = case(photos)
    assert int(data.from_folder(photos).cardinality()) == len(files)
    assert len(collect(photos, None, {}).contents) == len(files)


def test_sub_folders_are_searched_only_if_told(photos):
    photo(photos / "sub" / "c.png")
    linked_folder(photos)
    assert [file.name for file in walk(photos, recursive=False).files] == ["a.png", "b.png"]
    assert len(walk(photos).files) == 5


def lost_link(photos):
    (photos / "c.png").symlink_to("/nowhere.png")
    return "1 dangling link: 'c.png'"


def lost_folder(photos):
    (photos / "disk").symlink_to("/nowhere")
    return "1 dangling link: 'disk'"


def link_to_itself(photos):
    (photos / "c.png").symlink_to(photos / "c.png")
    return "1 dangling link: 'c.png'"


def strange_name(photos):
    os.rename(photo(photos / "c.png"), os.path.join(os.fsencode(photos), b"caf\xe9.png"))
    return r"1 name that is not UTF-8: 'caf\xe9.png'"


def strange_folder(photos):
    photo(photos / "sub" / "c.png")
    os.rename(photos / "sub", os.path.join(os.fsencode(photos), b"\xff"))
    return r"1 name that is not UTF-8: '\xff'"


def many(photos):
    for number in range(9):
        (photos / f"c{number}.png").symlink_to("/nowhere.png")
    return "9 dangling link: 'c0.png', 'c1.png', 'c2.png', 'c3.png', 'c4.png' and 4 more"


LOST = [lost_link, lost_folder, link_to_itself, strange_name, strange_folder, many]


@pytest.mark.matrix
@pytest.mark.parametrize("case", LOST, ids=lambda case: case.__name__)
def test_what_cannot_be_reached_is_warned_of_by_name(photos, case):
    said = re.escape(case(photos))
    assert found_in(photos) == ["a.png", "b.png"]
    assert re.search(said, walk(photos).note())
    with pytest.warns(UserWarning, match=said):
        assert int(data.from_folder(photos).cardinality()) == 2
    with pytest.warns(UserWarning, match=said):
        assert len(collect(photos, None, {}).contents) == 2


def test_a_dangling_link_that_is_no_image_is_only_counted(photos):
    (photos / "notes.txt").symlink_to("/nowhere.txt")
    assert walk(photos).passed_over == {".txt": 1}
    assert int(data.from_folder(photos).cardinality()) == 2


def test_what_may_not_be_read_is_named(photos):
    """In a process of its own, which gives up the rights of root where it has them."""
    photo(photos / "closed.png").chmod(0)
    photo(photos / "shut" / "c.png")
    (photos / "shut").chmod(0)
    photo(photos / "names_only" / "d.png")
    (photos / "names_only").chmod(0o444)
    # Up to the folder of all temporary ones, which pytest keeps to one user.
    for folder in (photos, *photos.parents):
        if folder == pathlib.Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    program = (
        "import os, sys\n"
        "from keras_amalgam.images.folders import walk\n"
        "walk(sys.argv[1])  # Loads what other users may not read.\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "found = walk(sys.argv[1])\n"
        "print([file.name for file in found.files], found.warning())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, photos], capture_output=True, text=True, check=False
    )
    (photos / "shut").chmod(0o755)
    (photos / "names_only").chmod(0o755)
    assert "['a.png', 'b.png']" in run.stdout, run.stderr
    assert "3 unreadable: 'closed.png', 'names_only/d.png', 'shut'" in run.stdout


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "holiday.heic").write_bytes(b"")
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(ValueError, match="holds no images.*1 .heic, 1 .txt"):
        data.from_folder(tmp_path)
    with pytest.raises(ValueError, match="holds no image.*1 .heic, 1 .txt"):
        collect(tmp_path, None, {})


def test_the_order_is_that_of_composed_names(tmp_path):
    names = ["é.png", "f.png", "d.png", "e.png", "z.png"]
    for form in ("NFC", "NFD"):
        folder = tmp_path / form
        for name in names:
            photo(folder / unicodedata.normalize(form, name))
    orders = [
        [unicodedata.normalize("NFC", name) for name in found_in(tmp_path / form)]
        for form in ("NFC", "NFD")
    ]
    assert orders[0] == orders[1] == sorted(names)


def test_classes_are_matched_whatever_the_form_of_their_accents(tmp_path):
    names = ["kaffee", "crème brûlée"]
    for name in names:
        photo(tmp_path / "test" / unicodedata.normalize("NFD", name) / "x.png")
    labelled = data.labelled_from_folder(tmp_path / "test", canvas=(4, 5, 3), class_names=names)
    assert labelled.class_names == tuple(names)
    assert data.labelled_from_folder(tmp_path / "test", canvas=(4, 5, 3)).class_names == (
        "crème brûlée",
        "kaffee",
    )
    collected = collect(None, {"cakes": tmp_path / "test"}, {"cakes": names})
    np.testing.assert_array_equal(collected.labels["cakes"], [1, 0])


def test_two_class_folders_of_one_name_are_refused(tmp_path):
    for form in ("NFC", "NFD"):
        photo(tmp_path / unicodedata.normalize(form, "é") / "x.png")
    if len(os.listdir(tmp_path)) == 2:  # Some file systems know it for one name.
        with pytest.raises(ValueError, match="two sub-folders of one name. Received: 'é'"):
            class_folders(tmp_path)


def test_linked_and_oddly_named_class_folders_are_classes(tmp_path):
    photo(tmp_path / "disk" / "x.png")
    photo(tmp_path / "test" / "cat.jpg" / "x.png")
    photo(tmp_path / "test" / ".cache" / "x.png")
    (tmp_path / "test" / "dog").symlink_to(tmp_path / "disk")
    (tmp_path / "test" / "gone").symlink_to(tmp_path / "nowhere")
    photo(tmp_path / "test" / "stray.png")
    names = ["cat.jpg", "dog"]
    assert list(class_folders(tmp_path / "test")) == names
    assert data.labelled_from_folder(tmp_path / "test", canvas=(4, 5, 3)).class_names == tuple(
        names
    )
    assert len(collect(None, {"pets": tmp_path / "test"}, {"pets": names}).contents) == 2


def test_extensions_are_those_of_images_alone():
    assert {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".avif"} <= {*extensions()}
    assert not {".pdf", ".eps", ".mpg", ".h5", ".psd", ".fits"} & {*extensions()}
