"""The API process over the fake engine, as a program of its own: `python -m tests.plumbline.fake_api_process PAUSE_S`.

Everything else is the real thing, signals and exit status included; settings come from the environment.
"""

import asyncio
import sys

from core.records import policy_name
from core.settings import settings
from plumbline.api import Api
from tests.serving.fake import FakeEngine

if __name__ == "__main__":
    engine = FakeEngine()
    engine.pause_s[policy_name(0)] = float(sys.argv[1])
    asyncio.run(Api(settings(), build_engine=lambda config, base: engine).run())
