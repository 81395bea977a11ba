from ingest.scene import *
import pytest

async def test_a(scene):
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))
    t = await scene.thread()
    print(t, scene.told)
    assert slot(t) == "deal:61"

async def test_b(either):
    await either.know(*CLIENT)
    s = either
    weird = [
      letter("a\udce9b\udcff@x"),
      letter("s@x", subject="nul \x00 in subject"),
      letter("t@x", to=[f"p{n}@many.example" for n in range(3000)]),
      letter("u@x", sender=None),
      letter("v@x", date=None),
      letter("w@x", sender="Fran\udce9 <fr\udce9d@client.example>", refers=["q\udce9@x"]),
      letter("y@x", sender="nul\x00 <a\x00b@client.example>"),
      letter(None, sender=None, date=None, to=[], subject=""),
      b"",
      b"\x00\xff\xfe",
    ]
    for n, w in enumerate(weird):
        await s.arrive(w, first_uid=n+1)
        print(n, len(await s.threads()), [h.error for h in await s.held()])
    for n, w in enumerate(weird):
        await s.deliver(received(w))
        print(n, len(await s.threads()), [h.error for h in await s.held()])
