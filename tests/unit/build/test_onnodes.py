"""Who gets the next build, and when nobody is left."""

import asyncio

from polyarch.build.onnodes import Fleet
from polyarch.nodes.model import Abilities, Address, Answer, Node


def fleet(**slots_and_busy: tuple[int, int]) -> Fleet:
    return Fleet(
        [
            Answer(Node(name, Address(name), (), slots), Abilities("x", None, "buildah", (), "chroot", (), 0, busy, ()))
            for name, (slots, busy) in slots_and_busy.items()
        ]
    )


async def name_of(nodes: Fleet, *names: str) -> str:
    async with nodes.slot(names) as answer:
        return answer.node.name if answer else ""


def test_the_least_loaded_node_is_first_counting_what_others_build_there() -> None:
    assert asyncio.run(name_of(fleet(a=(2, 2), b=(4, 3), c=(1, 1)), "a", "b", "c")) == "b"


def test_builds_spread_and_wait_for_a_free_slot() -> None:
    async def work() -> list[str]:
        nodes, order = fleet(a=(1, 0), b=(1, 0)), list[str]()

        async def one() -> None:
            async with nodes.slot(["a", "b"]) as answer:
                assert answer
                order.append(answer.node.name)
                await asyncio.sleep(0.01)

        await asyncio.gather(*(one() for _ in range(6)))
        return order

    assert sorted(asyncio.run(work())) == ["a"] * 3 + ["b"] * 3


def test_a_lost_node_gets_nothing_more_and_none_at_all_is_told() -> None:
    nodes = fleet(a=(1, 0), b=(1, 9))
    nodes.lost["a"] = "gone"
    assert asyncio.run(name_of(nodes, "a", "b")) == "b"
    nodes.lost["b"] = "gone, too"
    assert asyncio.run(name_of(nodes, "a", "b")) == ""


def test_who_waits_for_a_node_that_is_lost_does_not_wait_forever() -> None:
    async def work() -> str:
        nodes = fleet(a=(1, 0))
        async with nodes.slot(["a"]):
            waiting = asyncio.create_task(name_of(nodes, "a"))
            await asyncio.sleep(0.01)
            nodes.lost["a"] = "gone"
        return await asyncio.wait_for(waiting, 1)

    assert asyncio.run(work()) == ""
