from __future__ import annotations

from typing import Any

from agent.doctor.checks import kernel
from agent.doctor.findings import Finding, Level
from agent.doctor.reading import Output
from tests.support.findings import levels, only


def judged_kernel(**changes: Any) -> list[Finding]:
    seen: dict[str, Any] = {
        "release": "6.1.0-18-amd64",
        "nft": Output(code=0, out="nftables v1.0.6\n"),
        "iptables": Output(code=0, out="iptables v1.8.9 (nf_tables)\n"),
        "probed": {"namespace": "", "veth": "", "bridge": "", "nftables": ""},
        "docker_chain": True,
        "is_root": True,
    }
    return kernel.judge(**{**seen, **changes})


def test_a_kernel_that_can_do_it_all() -> None:
    assert levels(judged_kernel()) == {"ok"}


def test_what_the_kernel_cannot_do_is_an_error_with_its_module() -> None:
    findings = judged_kernel(probed={"namespace": "", "veth": "Operation not supported"})
    assert "modprobe veth" in only(findings, Level.ERROR).command
    assert only(judged_kernel(probed={"trial": "exit code 1"}), Level.WARNING).mend


def test_tasks_that_are_not_kept_apart_are_a_warning_that_names_the_module() -> None:
    probed = {"nftables": "", "nftables for bridges": "Operation not supported"}
    warning = only(judged_kernel(probed=probed), Level.WARNING)
    assert "nftables for bridges does not work (Operation not supported)" in warning.seen
    assert "modprobe nf_tables_bridge" in warning.command
    assert not [f for f in judged_kernel(probed=probed) if f.level is Level.ERROR]


def test_missing_programs() -> None:
    gone = Output(code=127, err="nft is not installed")
    probed = {"namespace": "", "nftables": "nft is not installed"}
    assert "nftables" in only(judged_kernel(nft=gone, probed=probed), Level.ERROR).mend
    assert levels(judged_kernel(iptables=gone)) == {"ok", "warning"}


def test_a_chain_that_only_root_may_look_for() -> None:
    seen = only(judged_kernel(docker_chain=None), Level.WARNING).seen
    assert seen == (
        "whether iptables v1.8.9 (nf_tables) has Docker's chain DOCKER-USER is not known"
    )
    assert not [f for f in judged_kernel(docker_chain=None) if "without Docker's" in f.seen]
    broken = Output(code=1, err="exec format error")
    assert "iptables does not work" in only(judged_kernel(iptables=broken), Level.ERROR).seen


def test_an_old_kernel_and_no_root() -> None:
    assert levels(judged_kernel(release="4.14.336-amzn2")) == {"ok", "warning"}
    assert levels(judged_kernel(is_root=False, probed={})) == {"ok", "warning"}
    assert kernel.release_of("6.18.44-fc") == (6, 18)
    assert kernel.release_of("strange") == (0, 0)
