"""The swap: this replica follows the registry, and never stops serving to do so.

Every half second it asks for the registry's state. A version that it needs and does not have is copied, verified,
loaded under its own name and probed; only then the pointer flips, in one assignment. New requests take the new version,
those in flight finish on theirs, and a version is unloaded when it is neither resident nor in use. Rolling back is the
same path. Whatever fails leaves the old policy in service.
"""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass

import redis
from redis.exceptions import RedisError

from core import metrics, registry
from core.errors import AdapterError, ApiError, PlumblineError, Unavailable
from core.records import AdapterManifest, policy_name
from serving.assignment import Assignment, ResidentSet, assign
from serving.probe import compare
from serving.protocol import MAX_ADAPTERS, Engine
from serving.replica_cache import ReplicaCache

POLL_S = 0.5
PROBE_TIMEOUT_S = 120.0
RETRY_FIRST_S, RETRY_LAST_S = 5.0, 300.0

log = logging.getLogger("plumbline.swap")


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A target that could not be served, and when it is worth another try."""

    target: ResidentSet
    reason: str
    retry_at: float
    delay_s: float


class Replica:
    """The policies of this process. One task drives `step`; request handlers call `acquire` and `release`."""

    def __init__(self, engine: Engine, cache: ReplicaCache, client: redis.Redis) -> None:
        self._engine = engine
        self._cache = cache
        self._client = client
        self.residents: ResidentSet | None = None
        self._loaded: dict[int, str] = {}
        """Versions that the engine holds, with their adapter's sha256."""
        self._in_use: Counter[int] = Counter()
        self._max_rank = 0
        self._wanted: ResidentSet | None = None
        """The last target; served again after the engine was rebuilt."""
        self._refusal: Refusal | None = None
        self._missing: dict[int, str] = {}
        """Resident versions other than the live one that could not be loaded, with the reason."""
        self._registry_away = False
        self._engine_failure = ""
        self._heal_at = 0.0
        self._heal_delay_s = 1.0

    # --- what request handlers use: no waiting ------------------------------------------------------------------------

    def acquire(self, model: str) -> Assignment:
        """Chooses the version for a request and keeps it loaded until `release`.

        Raises:
            NotFound: no such version here.
            Unavailable: nothing is served yet, or the engine is being rebuilt.
        """
        if self.residents is None or not self._engine.alive:
            raise Unavailable("No policy is being served at the moment; try again soon.", code="engine_unavailable")
        assignment = assign(model, self.residents)
        self._in_use[assignment.version] += 1
        return assignment

    def release(self, assignment: Assignment) -> None:
        self._in_use[assignment.version] -= 1
        assert self._in_use[assignment.version] >= 0

    @property
    def in_flight(self) -> int:
        return self._in_use.total()

    @property
    def notes(self) -> list[str]:
        """What a person should know, for `/ready`."""
        notes = [f"{policy_name(version)} is not resident: {reason}" for version, reason in self._missing.items()]
        if self._registry_away:
            notes.append("the registry is away: the last good policy stays in service")
        elif self._wanted is None:
            notes.append("the registry holds no policy yet")
        if self._refusal is not None:
            notes.append(f"generation {self._refusal.target.generation} was refused: {self._refusal.reason}")
        return [*notes, self._engine_failure] if self._engine_failure else notes

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follows the registry for ever."""
        while True:
            try:
                await self.step()
            except Exception:  # the loop outlives anything: without it no swap and no healing would ever happen again
                log.exception("a step of the swap loop failed")
            await asyncio.sleep(POLL_S)

    async def step(self) -> None:
        """One look at the registry, and what follows from it."""
        target = await self._target()
        if target is None:
            return
        if not self._engine.alive:
            await self._build_engine(target)
        if self._engine.alive:
            if self._is_news(target):
                await self._converge(target)
            await self._unload_unused()

    async def _target(self) -> ResidentSet | None:
        """What the registry wants; without it what was wanted before, or at start the last good policy."""
        try:
            wanted = await asyncio.to_thread(_read_registry, self._client)
            self._registry_away = False
        except (RedisError, OSError) as error:
            if not self._registry_away:
                log.warning("the registry is away (%s); what is served stays", type(error).__name__)
            wanted, self._registry_away = None, True
        self._wanted = wanted or self._wanted or await asyncio.to_thread(self._last_good)
        return self._wanted

    def _last_good(self) -> ResidentSet | None:
        entry = self._cache.last_good() if self._registry_away else None
        if entry is None:
            return None
        policies = {entry.version: entry.adapter_sha256}
        return ResidentSet(generation=entry.generation, live=entry.version, policies=policies)

    def _is_news(self, target: ResidentSet) -> bool:
        if self._refusal is not None and self._refusal.target == target:
            return time.monotonic() >= self._refusal.retry_at
        return self.residents is None or self.residents.generation != target.generation or self._widens(target)

    def _widens(self, target: ResidentSet) -> bool:
        """The same generation, but more of it: after a start from the last good file."""
        assert self.residents is not None
        return bool(target.policies.keys() - self.residents.policies.keys() - self._missing.keys())

    async def _build_engine(self, target: ResidentSet) -> None:
        """First start, and healing: a new engine in this process, with capped back-off between tries."""
        metrics.ENGINE_UP.set(0)
        self.residents = None
        self._loaded.clear()
        if time.monotonic() < self._heal_at:
            return
        try:
            self._max_rank = await asyncio.to_thread(self._rank, target)
            await self._engine.start(max_rank=self._max_rank)
        except Exception as error:  # whatever it was, it is logged, told in /ready and tried again
            log.exception("the engine did not start; next try in %.0f s", self._heal_delay_s)
            self._engine_failure = f"the engine does not start: {error}"
            self._heal_at = time.monotonic() + self._heal_delay_s
            self._heal_delay_s = min(self._heal_delay_s * 2, 60.0)
            return
        self._engine_failure, self._heal_delay_s, self._refusal = "", 1.0, None
        metrics.ENGINE_UP.set(1)

    def _rank(self, target: ResidentSet) -> int:
        return max(self._cache.rank(sha256) for sha256 in target.policies.values())

    async def _converge(self, target: ResidentSet) -> None:
        """Makes `target` what is served: live first, the others as far as they can be loaded."""
        seen = time.monotonic()
        needed = [version for version in target.policies if version not in self._loaded]
        if len(self._loaded) + len(needed) > MAX_ADAPTERS:
            return  # older versions still answer; try again when they are done
        self._missing.clear()
        try:
            await self._ensure(target.live, target.policies[target.live])
        except PlumblineError as error:
            self._refuse(target, str(error))
            return
        for version in target.policies:
            try:
                await self._ensure(version, target.policies[version])
            except PlumblineError as error:
                log.warning("%s is not resident: %s", policy_name(version), error)
                self._missing[version] = str(error)
        await self._flip(target, seen)

    async def _flip(self, target: ResidentSet, seen: float) -> None:
        resident = {version: sha256 for version, sha256 in target.policies.items() if version in self._loaded}
        self._refusal = None
        self.residents = ResidentSet(generation=target.generation, live=target.live, policies=resident)
        metrics.SWAPS.labels("done").inc()
        metrics.SWAP_DURATION.observe(time.monotonic() - seen)
        metrics.GENERATION.set(target.generation)
        metrics.LIVE_VERSION.set(target.live)
        metrics.POLICY_INFO.clear()
        for version, sha256 in resident.items():
            role = "live" if version == target.live else "resident"
            metrics.POLICY_INFO.labels(str(version), sha256, role).set(1)
        log.info("generation %d: %s is live", target.generation, policy_name(target.live))
        sha256 = resident[target.live]
        await asyncio.to_thread(self._cache.remember, generation=target.generation, version=target.live, sha256=sha256)

    def _refuse(self, target: ResidentSet, reason: str) -> None:
        again = self._refusal is not None and self._refusal.target == target
        delay_s = min(self._refusal.delay_s * 2, RETRY_LAST_S) if again and self._refusal else RETRY_FIRST_S
        self._refusal = Refusal(target=target, reason=reason, retry_at=time.monotonic() + delay_s, delay_s=delay_s)
        metrics.SWAPS.labels("refused").inc()
        serving = policy_name(self.residents.live) if self.residents else "nothing"
        log.error("generation %d refused, %s stays in service: %s", target.generation, serving, reason)

    async def _ensure(self, version: int, sha256: str) -> None:
        """Copy, verify, load, probe.

        Raises:
            AdapterError: the version must not be served.
            Unavailable: the engine died meanwhile.
        """
        if version in self._loaded:
            if self._loaded[version] != sha256:
                raise AdapterError(f"{policy_name(version)} is served with another adapter: versions never change")
            return
        directory, manifest = await asyncio.to_thread(self._cache.fetch, sha256)
        if manifest.rank > self._max_rank:
            raise AdapterError(f"rank {manifest.rank} is over {self._max_rank}, which the engine was started for")
        await self._engine.load(policy_name(version), directory)
        try:
            await self._probe(version, manifest)
        except PlumblineError:
            await self._engine.unload(policy_name(version))
            raise
        self._loaded[version] = sha256

    async def _probe(self, version: int, manifest: AdapterManifest) -> None:
        name = policy_name(version)
        try:
            scoring = [self._engine.score(name, sequence.token_ids) for sequence in manifest.probe]
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                scores = await asyncio.gather(*scoring)
        except TimeoutError:
            raise AdapterError(f"{name} did not answer its probe within {PROBE_TIMEOUT_S:.0f} s") from None
        except ApiError as error:
            raise AdapterError(f"{name} could not be probed: {error}") from error
        both_float32 = manifest.serving_dtype == self._engine.dtype == "float32"
        report = compare(manifest.probe, scores, float32=both_float32)
        if report.fault:
            raise AdapterError(f"{name} failed its probe: {report.fault}")
        slope = "too close to its parent to tell" if report.slope is None else f"slope {report.slope:.3f}"
        log.info("%s passed its probe: %d tokens, max %.2g, %s", name, report.tokens, report.max_error, slope)

    async def _unload_unused(self) -> None:
        """Forgets versions that nobody can reach any more and nobody still uses."""
        if self.residents is None:
            return
        unused = [v for v in self._loaded if v not in self.residents.policies and not self._in_use[v]]
        for version in unused:
            del self._loaded[version]
            await self._engine.unload(policy_name(version))
            log.info("%s unloaded", policy_name(version))
        if unused:
            await asyncio.to_thread(self._cache.prune, set(self._loaded.values()))


def _read_registry(client: redis.Redis) -> ResidentSet | None:
    """The registry's wish: v0, live and previous, with their adapters."""
    state = registry.state(client)
    if state is None:
        return None
    versions = sorted({0, state.live} | ({state.previous} if state.previous is not None else set()))
    policies = {version: registry.policy(client, version).adapter_sha256 for version in versions}
    return ResidentSet(generation=state.generation, live=state.live, policies=policies)
