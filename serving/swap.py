"""The swap: this replica follows the registry, and never stops serving to do so.

Every half second it asks for the registry's state. A version that it needs and does not have is copied, verified,
loaded under its own name and probed; only then the pointer flips, in one assignment. New requests take the new version,
those in flight finish on theirs, and a version is unloaded when it is neither resident nor in use. Rolling back is the
same path. Whatever fails leaves the old policy in service.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from dataclasses import dataclass, replace

import redis
from redis.exceptions import RedisError

from core import metrics, registry, tracing
from core.errors import AdapterError, ApiError, PlumblineError, Unavailable
from core.records import AdapterManifest, policy_name
from serving.assignment import Assignment, Canary, ResidentSet, assign
from serving.probe import compare
from serving.protocol import MAX_ADAPTERS, Engine
from serving.replica_cache import ReplicaCache

POLL_S = 0.5
PROBE_TIMEOUT_S = 120.0
RETRY_FIRST_S, RETRY_LAST_S = 5.0, 300.0
MISSING_RETRY_S = 60.0
"""Between two tries of a version that is not the live one."""

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
        """Versions to be resident, other than the live one, that could not be loaded, with the reason."""
        self._missing_retry_at = 0.0
        self._registry_away = False
        self._engine_failure = ""
        self._heal_at = 0.0
        self._heal_delay_s = 1.0

    # --- what request handlers use: no waiting ------------------------------------------------------------------------

    def acquire(self, model: str, end_user: str | None = None) -> Assignment:
        """Chooses the version for a request and keeps it loaded until `release`.

        Args:
            end_user: whom it answers; None draws for this request alone whether the canary does.

        Raises:
            NotFound: no such version here.
            Unavailable: nothing is served yet, or the engine is being rebuilt.
        """
        if self.residents is None or not self._engine.alive:
            raise Unavailable("No policy is being served at the moment; try again soon.", code="engine_unavailable")
        assignment = assign(model, self.residents, secrets.token_hex(16) if end_user is None else end_user)
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
        if (
            self._wanted is not None
            and self._wanted.canary is not None
            and self._wanted.canary.version in self._missing
        ):
            notes.append(f"release {self._wanted.canary.release}: all traffic of this replica goes to the live version")
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
                with tracing.span("policy swap", {"plumbline.generation": target.generation}):
                    await self._converge(target)
                    tracing.annotate({"plumbline.refused": self._refusal is not None})
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
        """The same generation, but more of it: after a start from the last good file, when there was no room for all,
        or when it is time to try again what could not be loaded."""
        assert self.residents is not None
        lacking = target.policies.keys() - self.residents.policies.keys()
        return bool(lacking - self._missing.keys()) or bool(lacking and time.monotonic() >= self._missing_retry_at)

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
        """The highest that is to be served. What cannot be read then cannot be loaded, which concerns the others only
        if it is the live version."""
        ranks = [self._cache.rank(target.policies[target.live])]
        for sha256 in target.policies.values():
            with contextlib.suppress(AdapterError):
                ranks.append(self._cache.rank(sha256))
        return max(ranks)

    async def _converge(self, target: ResidentSet) -> None:
        """Makes `target` what is served: live first, the others as far as they can be loaded."""
        seen = time.monotonic()
        if target.live not in self._loaded and not self._has_room:
            self._make_room(target)  # the next step goes on
            return
        self._missing.clear()
        self._missing_retry_at = seen + MISSING_RETRY_S
        try:
            await self._ensure(target.live, target.policies[target.live])
        except PlumblineError as error:
            self._refuse(target, str(error))
            return
        for version in target.policies:
            if version not in self._loaded and not self._has_room:
                continue  # older versions still answer; it is looked for again when they are done
            try:
                await self._ensure(version, target.policies[version])
            except PlumblineError as error:
                log.warning("%s is not resident: %s", policy_name(version), error)
                self._missing[version] = str(error)
        self._refusal = None
        metrics.POLICIES_MISSING.set(len(self._missing))
        resident = {version: sha256 for version, sha256 in target.policies.items() if version in self._loaded}
        canary = target.canary if target.canary and target.canary.version in resident else None
        served = replace(target, policies=resident, canary=canary)
        if served != self.residents:
            await self._flip(served, seen)

    @property
    def _has_room(self) -> bool:
        return len(self._loaded) < MAX_ADAPTERS

    def _make_room(self, target: ResidentSet) -> None:
        """Lets no new request reach what is not wanted any more; if that is nothing, only the live version's."""
        assert self.residents is not None  # else nothing is loaded
        if self._loaded.keys() - self.residents.policies.keys():
            return  # some is being made: their last requests have not ended yet
        live = self.residents.live
        kept = {version for version in self.residents.policies if version in target.policies} | {live}
        if kept == self.residents.policies.keys():
            kept = {live}
        policies = {version: self.residents.policies[version] for version in kept}
        canary = self.residents.canary if self.residents.canary and self.residents.canary.version in kept else None
        self.residents = replace(self.residents, policies=policies, canary=canary)

    async def _flip(self, served: ResidentSet, seen: float) -> None:
        if self.residents is None:
            metrics.STARTUP.labels("policies").set(time.monotonic() - seen)
        self.residents = served
        metrics.SWAPS.labels("done").inc()
        metrics.SWAP_DURATION.observe(time.monotonic() - seen)
        metrics.GENERATION.set(served.generation)
        metrics.LIVE_VERSION.set(served.live)
        metrics.POLICY_INFO.clear()
        roles = {served.live: "live"} | ({served.canary.version: "canary"} if served.canary else {})
        for version, sha256 in served.policies.items():
            metrics.POLICY_INFO.labels(str(version), sha256, roles.get(version, "resident")).set(1)
        log.info("generation %d: %s is live%s", served.generation, policy_name(served.live), _told(served.canary))
        sha256 = served.policies[served.live]
        await asyncio.to_thread(self._cache.remember, generation=served.generation, version=served.live, sha256=sha256)

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
            # One after the other: together they are one long step, which every stream would have to wait for, and with
            # long prompts they are more than may wait for the engine (PLUMBLINE_MAX_QUEUED_TOKENS).
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                scores = [await self._engine.score(name, sequence.token_ids) for sequence in manifest.probe]
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


def _told(canary: Canary | None) -> str:
    return "" if canary is None else f", {policy_name(canary.version)} answers {canary.share:.0%} ({canary.release})"


def _read_registry(client: redis.Redis) -> ResidentSet | None:
    """The registry's wish: live, canary, previous and v0, with their adapters."""
    state = registry.state(client)
    if state is None:
        return None
    canary = None
    if state.release is not None and state.canary is not None and state.share is not None:
        canary = Canary(release=state.release, version=state.canary, share=state.share)
    wanted = [state.live, state.canary, state.previous, 0]  # the first ones first, should there be no room for all
    policies = {version: registry.policy(client, version).adapter_sha256 for version in wanted if version is not None}
    return ResidentSet(generation=state.generation, live=state.live, policies=policies, canary=canary)
