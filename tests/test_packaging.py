"""The house: links under src/ against setup.cfg, the wheel against git, and rooms that do not reach back."""

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("modeling", "pipelines", "data_scripts", "training", "model_cards")
# What the files of a folder may import of the others; the same folder is always allowed.
REACH = {
    "modeling": set(),
    "pipelines": set(),
    "data_scripts": {"modeling"},  # SHARED_WITH_BUILDERS alone
    "training": {"modeling", "pipelines", "data_scripts", "model_cards"},
}

# Modules of modeling/ that builders use too, so that new cells are aligned and binned as the training's were.
SHARED_WITH_BUILDERS = ("omics_transformers.modeling.peak_gene_rings", "omics_transformers.modeling.value_bins")


def package_map() -> dict[str, str]:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return dict(line.split(" = ") for line in settings["options"]["package_dir"].strip().splitlines())


def test_each_link_is_what_the_map_says() -> None:
    links = {path.name: path.resolve() for path in (ROOT / "src" / "omics_transformers").iterdir() if path.is_symlink()}
    mapped = {name.rpartition(".")[2]: ROOT / folder for name, folder in package_map().items() if name.count(".") == 1}
    assert links == {name: folder.resolve() for name, folder in mapped.items()}
    assert set(mapped) == set(FOLDERS)


def tracked_files() -> set[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listing.stdout.split())


def test_the_wheel_holds_what_git_holds(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of files to compare with")
    source = tmp_path / "source"
    for name in tracked_files():
        if not (ROOT / name).is_symlink():  # as in a clone without links
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"omics_transformers/{name}" if name.startswith(FOLDERS) else name.removeprefix("src/")
        for name in tracked_files()
        if name.startswith((*(f"{folder}/" for folder in FOLDERS), "src/omics_transformers/"))
        and not (ROOT / name).is_symlink()
    }
    assert found == expected


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, relative ones resolved against omics_transformers.<folder>."""
    package = f"omics_transformers.{path.parent.name}"
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            names.add(f"{base}.{node.module or ''}".strip("."))
    return names


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("folder", REACH)
def test_rooms_do_not_reach_back(folder: str) -> None:
    for path in python_files(folder):
        reached = {name.split(".")[1] for name in imports(path) if name.startswith("omics_transformers.")}
        assert reached - {folder, "version"} <= REACH[folder], path


@pytest.mark.parametrize("module", SHARED_WITH_BUILDERS)
def test_what_builders_share_with_models_needs_numpy_and_scipy_alone(module: str) -> None:
    path = ROOT / "modeling" / f"{module.rpartition('.')[2]}.py"
    roots = {name.split(".")[0] for name in imports(path)}
    assert roots - sys.stdlib_module_names <= {"numpy", "scipy"}
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_builders_reach_for_nothing_else_of_modeling() -> None:
    for path in python_files("data_scripts"):
        reached = {name for name in imports(path) if name.startswith("omics_transformers.modeling")}
        assert reached <= set(SHARED_WITH_BUILDERS), path


def test_builders_know_nothing_of_torch() -> None:
    for path in python_files("data_scripts"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & {"torch", "transformers", "accelerate"}, path


@pytest.mark.parametrize("folder", ["modeling", "pipelines"])
def test_what_goes_to_the_hub_obeys_its_rules(folder: str) -> None:
    """transformers copies same-folder files that a regular expression finds, flat."""
    for path in python_files(folder):
        text = path.read_text()
        assert not re.search(r"^\s*from \.\.|^\s*from \. import", text, re.MULTILINE), path
        for sibling in re.findall(r"^\s*from \.(\S+)", text, re.MULTILINE):
            assert (path.parent / f"{sibling}.py").exists(), f"{path}: no file for `from .{sibling}`"


def test_base_names_are_unique_in_the_flat_folder_of_the_hub() -> None:
    names = [path.name for folder in ("modeling", "pipelines") for path in python_files(folder)]
    names = [name for name in names if name != "__init__.py"]
    assert len(names) == len(set(names))


def test_no_file_of_training_bears_the_name_of_a_library() -> None:
    """That folder heads sys.path when a script in it is launched by path."""
    libraries = set(sys.stdlib_module_names)
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    requirements = settings["options"]["install_requires"].split()
    libraries |= {re.split(r"[<>=]", requirement)[0].replace("-", "_") for requirement in requirements}
    assert not libraries & {path.stem for path in python_files("training")}


def test_no_python_file_is_over_600_lines() -> None:
    for name in tracked_files():
        if name.endswith(".py"):
            assert len((ROOT / name).read_text().splitlines()) <= 600, name
