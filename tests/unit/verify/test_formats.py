"""Reports as SARIF and JUnit."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from verify_images import ARM, Spec, file, image, layer, program, root

from polyarch.verify import CODES, junit, sarif, verify


def test_sarif_has_a_rule_for_each_code_and_a_result_for_each_violation() -> None:
    report = verify(image(Spec(layers=[layer(*root(), program("usr/bin/tool", ARM), file("opt/x", ARM))])))
    (run,) = json.loads(sarif(report))["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["elf-machine"]
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [
        ("elf-machine", "error"),
        ("elf-machine", "warning"),
    ]
    uri = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "memory:test/linux/amd64/usr/bin/tool"


def test_junit_fails_for_errors_only() -> None:
    report = verify(image(Spec(layers=[layer(*root(), program("usr/bin/tool", ARM), file("opt/x", ARM))])))
    suites = ElementTree.fromstring(junit(report))
    assert [suite.get("name") for suite in suites] == ["documents", "linux/amd64"]
    assert [len(suites.findall(f".//{tag}")) for tag in ("failure", "system-out")] == [1, 1]
    assert suites.get("failures") == "1"


def test_a_clean_image_is_one_passed_test_for_each_suite() -> None:
    suites = ElementTree.fromstring(junit(verify(image(Spec(), Spec("linux/s390x")))))
    assert [len(suite) for suite in suites] == [1, 1, 1]
    assert suites.findall(".//failure") == []


def test_names_that_xml_and_utf8_may_not_hold_do_not_break_a_report() -> None:
    report = verify(image(Spec(layers=[layer(*root(), file("opt/\x01\udcff<&>.so", ARM))])))
    ElementTree.fromstring(junit(report).encode())
    json.loads(sarif(report).encode())
    json.dumps(report.as_dict()).encode()


def test_the_json_form_is_plain_and_says_whether_it_is_ok() -> None:
    report = verify(image(Spec(layers=[layer(*root(), program("usr/bin/tool", ARM))])))
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["ok"] is False
    assert plain["violations"][0]["path"] == "/usr/bin/tool"


def test_every_code_says_what_it_means_and_what_mends_it() -> None:
    assert all(code.title and code.hint and name == code.name for name, code in CODES.items())
