"""References as docker and skopeo read them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.errors import InputError
from polyarch.oci.reference import parse_location, parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:trixie", "docker.io/library/debian:trixie"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        ("localhost/app:1", "localhost/app:1"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("registry.example/a/b__c/d-e:v1.0", "registry.example/a/b__c/d-e:v1.0"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
    ],
)
def test_names_are_completed_as_docker_does(text: str, whole: str) -> None:
    assert str(parse_reference(text)) == whole
    assert str(parse_reference(whole)) == whole


@pytest.mark.parametrize(
    "text",
    ["", "App", "a//b", "a:b:c", "app:", "app@sha256:12", ":tag", "-app", "app:" + "x" * 129, "a/" * 200 + "b", "a b"],
)
def test_what_is_no_name_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_reference(text)
    assert caught.value.detail


def test_the_familiar_form_is_what_people_write() -> None:
    assert parse_reference("debian:trixie").familiar == "debian:trixie"
    assert parse_reference("team/app").familiar == "team/app:latest"


@pytest.mark.parametrize(
    ("text", "transport", "tag"),
    [
        ("docker://localhost:5000/a:1", "docker", ""), ("oci:/tmp/x", "oci", ""), ("oci:/tmp/x:v1", "oci", "v1"),
        ("oci-archive:f.tar", "oci-archive", ""), ("docker-archive:f.tar:a", "docker-archive", "a"),
        ("containers-storage:localhost/a", "containers-storage", ""), ("debian", "docker", ""),
    ],
)  # fmt: skip
def test_locations_are_those_of_skopeo(text: str, transport: str, tag: str) -> None:
    found = parse_location(text)
    assert (found.transport, found.tag) == (transport, tag)


@given(st.text(alphabet=string.ascii_letters + string.digits + "/:@.-_[]", max_size=80))
def test_any_text_is_a_reference_that_reads_back_or_an_input_error(text: str) -> None:
    try:
        found = parse_reference(text)
    except InputError:
        return
    assert parse_reference(str(found)) == found
