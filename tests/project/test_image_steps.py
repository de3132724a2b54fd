"""What runs an image's steps without Docker; `make image` does so with the Dockerfile."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.image_steps import Build, Stage, StepError

TWO_STAGES = """\
FROM python AS build
WORKDIR /src
COPY given ./
RUN mkdir -p /opt/made \\
 && cp given /opt/made/it
FROM python
COPY --from=build /opt/made /opt/made
ENV PLACE=/opt/made LEFT=/usr/share
VOLUME ["/opt/made"]
USER 1000:1000
"""


def built(folder: Path, dockerfile: str) -> Stage:
    """Run the steps of a Dockerfile whose context has `given`, and `kept` that is kept out."""
    context, made = folder / "context", folder / "made"
    context.mkdir()
    made.mkdir()
    for name in ("given", "kept"):
        (context / name).write_text(name)
    file = context / "Dockerfile"
    file.write_text(dockerfile)
    (context / "Dockerfile.dockerignore").write_text("*\n!given\n")
    return Build(context, made).run(file)


def test_a_stage_has_what_was_copied_from_another_and_its_own_paths(tmp_path: Path) -> None:
    stage = built(tmp_path, TWO_STAGES)
    assert (stage.root / "opt" / "made" / "it").read_text() == "given"
    assert not (stage.root / "src").exists()
    assert stage.environment() == {"PLACE": f"{stage.root}/opt/made", "LEFT": "/usr/share"}
    assert stage.user == "1000:1000"
    assert not Path("/opt/made").exists()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("COPY kept /opt/", "kept out of the build"),
        ("RUN exit 3", "exit code 3"),
        ('VOLUME ["/var/nothing"]', "where nothing is"),
        ("EXPOSE http", "no ports"),
        ("ONBUILD RUN true", "ONBUILD is not known"),
    ],
)
def test_a_step_that_cannot_work_is_told(tmp_path: Path, step: str, words: str) -> None:
    with pytest.raises(StepError, match=words):
        built(tmp_path, f"FROM python\nWORKDIR /src\n{step}\n")


def test_nothing_stands_before_the_first_stage(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="before FROM"):
        built(tmp_path, "RUN true\n")
