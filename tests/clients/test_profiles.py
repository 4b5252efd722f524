"""Profiles of the command line: a file, below the environment and the options."""

from pathlib import Path
from typing import Any

import pytest

from tests.clients.command_line import Person
from tests.running import new_user


class Configured(Person):
    """A person with a configuration file."""

    def __init__(self, folder: Path, content: str | bytes, **environment: str) -> None:
        super().__init__(**environment)
        self.environment["XDG_CONFIG_HOME"] = str(folder)
        self.file = folder / "taskwell" / "config.toml"
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.file.chmod(0o600)


@pytest.fixture
def users() -> list[str]:
    return [new_user() for _ in range(4)]


def test_an_option_wins_over_the_environment_a_profile_and_the_default(
    tmp_path: Path, address: str, users: list[str]
) -> None:
    by_option, by_variable, by_profile, other = users
    content = f"""
    [profiles.default]
    target = "{address}"
    user = "{by_profile}"
    timeout = 20

    [profiles.other]
    target = "{address}"
    user = "{other}"
    """
    person = Configured(tmp_path, content)
    for number, user in enumerate(users):
        Person(target=address, user=user).sees("add", f"Task {number}")

    def sees(*arguments: str, **variables: str) -> Any:
        chosen = Configured(tmp_path, content, **variables) if variables else person
        [task] = chosen.gets("list", *arguments)
        return task["title"]

    assert sees("--user", by_option, "--profile", "other", user=by_variable) == "Task 0"
    assert sees("--profile", "other", user=by_variable) == "Task 1"
    assert sees() == "Task 2"
    assert sees("--profile", "other") == "Task 3"
    assert sees(profile="other") == "Task 3"
    assert sees("--profile", "default", profile="other") == "Task 2"
    assert "127.0.0.1:1" in person.is_told("list", "--target", "127.0.0.1:1", status=6)


def test_a_user_by_an_option_takes_the_place_of_a_token_in_a_profile(tmp_path: Path, address: str) -> None:
    content = f'[profiles.default]\ntarget = "{address}"\ntoken = "secret"\n'
    person = Configured(tmp_path, content)
    assert "who you are" in person.is_told("list", status=5)
    assert person.sees("list", "--user", new_user()) == ""
    assert Configured(tmp_path, content, user=new_user()).sees("list") == ""
    both = Configured(tmp_path, content + 'user = "alice"\n')
    assert "not both" in both.is_told("list", status=2)
    assert "secret" not in both.is_told("list", status=2)


def test_files_are_found_beside_the_configuration_file(tmp_path: Path) -> None:
    person = Configured(tmp_path, '[profiles.default]\ntls_ca = "ca.pem"\nuser = "alice"\n')
    assert str(person.file.parent / "ca.pem") in person.is_told("list", status=2)
    (person.file.parent / "ca.pem").write_text("not a certificate")
    assert "cannot reach" in person.is_told("list", "--target", "127.0.0.1:1", status=6)
    assert "cannot reach" in person.is_told("list", "--no-tls", "--target", "127.0.0.1:1", status=6)


def test_a_token_that_others_can_read_is_warned_about(tmp_path: Path, address: str) -> None:
    person = Configured(tmp_path, f'[profiles.default]\ntarget = "{address}"\ntoken = "secret"\n')
    person.file.chmod(0o644)
    done = person.types("list", "--user", new_user())
    assert done.exit_code == 0
    assert done.stderr == f"taskwell: other users can read {person.file}, which has a token: chmod 600 it\n"
    person.file.chmod(0o600)
    assert person.types("list", "--user", new_user()).stderr == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[profiles.default", "cannot read"),
        (b"\xff", "cannot read"),
        ("a = " + "[" * 100_000, "cannot read"),
        ('target = "localhost:1"', "tables [profiles.NAME] alone, and not target"),
        ("profiles = 1", "tables [profiles.NAME] alone"),
        ("[profiles]\ndefault = 1", "must be a table"),
        ('[profiles.default]\ntargte = "a"', "there is no option 'targte'; there are insecure, target"),
        ("[profiles.default]\ntarget = 1", "target must be a text"),
        ('[profiles.default]\nuser = ""', "user must be a text that is not empty"),
        ('[profiles.default]\ntls = "yes"', "tls must be true or false"),
        ('[profiles.default]\ntimeout = "10"', "timeout must be a number"),
        ("[profiles.default]\ntimeout = -1", "--timeout"),
        ('[profiles.default]\ntarget = "\\u001b[2J"', "target"),
        ('[profiles.other]\nuser = "alice"', "there is no profile 'work'"),
    ],
)
def test_a_wrong_configuration_file_is_one_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    person = Configured(tmp_path, content)
    arguments = ["--profile", "work"] if "'work'" in said else []
    assert said in person.is_told("list", *arguments, status=2)
    assert person.types("list", "--help").exit_code == 0


def test_a_configuration_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    person = Configured(tmp_path, "")
    person.file.unlink()
    person.file.mkdir()
    assert "cannot read" in person.is_told("list", status=2)


@pytest.mark.parametrize("folder", ["", "relative"])
def test_without_a_configuration_folder_there_are_no_profiles(tmp_path: Path, address: str, folder: str) -> None:
    person = Person(target=address, user=new_user())
    person.environment.update({"XDG_CONFIG_HOME": folder, "HOME": str(tmp_path)})
    assert person.sees("list") == ""
    (tmp_path / ".config" / "taskwell").mkdir(parents=True)
    (tmp_path / ".config" / "taskwell" / "config.toml").write_text("wrong = 1")
    assert "and not wrong" in person.is_told("list", status=2)
    person.environment["HOME"] = ""
    assert person.sees("list") == ""
