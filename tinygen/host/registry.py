"""The registry: every algorithm and data set that the providers bring, and an explained row for what went wrong.

    registry = Registry.discover(plugins=["my_plugin.py"])
    registry.rows                          # one a contribution: ok, broken or conflict
    spec = registry.algorithm("gan")       # its AlgorithmSpec; nothing of the algorithm is imported yet
    GAN = registry.load(spec.factory)      # now it is

Each provider is loaded, checked and asked by itself, so that a broken one costs one row and no more. What cannot be
executed (its import, its hooks) breaks the whole provider; an item of the wrong type is left out, the others stay.
"""

from __future__ import annotations

import importlib
import inspect
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import pluggy

from tinygen.errors import PluginError, TinygenError, UsageError, did_you_mean
from tinygen.host import hookspecs
from tinygen.host.contract import AlgorithmSpec, DatasetSpec
from tinygen.host.providers import Provider, describe, find_providers, location, module_root

DISABLED_VARIABLE = "TINYGEN_DISABLE"  # names of providers, separated by commas
HOOKS = ("tinygen_algorithms", "tinygen_datasets", "tinygen_callbacks")
_HOOKS_HINT = "the hooks are tinygen_algorithms(), tinygen_datasets() and tinygen_callbacks(run)"

Spec = TypeVar("Spec", AlgorithmSpec, DatasetSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of `tinygen list`: an algorithm, a provider that is broken, or a name that was already taken."""

    name: str  # "gan"; of a broken provider, its own name
    family: str
    summary: str
    status: Literal["ok", "broken", "conflict"]
    verbs: tuple[str, ...]
    provider: str
    reason: str = ""  # why it is not ok, in one line
    hint: str = ""  # what to do about it


class Shelf(Generic[Spec]):
    """Specs by name. The first provider of a name holds it; every spec is there as `provider:name` too."""

    def __init__(self) -> None:
        self.plain: dict[str, Spec] = {}
        self.qualified: dict[str, Spec] = {}
        self._holders: dict[str, str] = {}

    def put(self, spec: Spec, provider: str) -> str:
        """Place a spec. Returns the provider that already holds its name, or "" where the name was free."""
        self.qualified.setdefault(f"{provider}:{spec.name}", spec)
        if spec.name in self.plain:
            return self._holders[spec.name]
        self.plain[spec.name], self._holders[spec.name] = spec, provider
        return ""

    def get(self, name: str) -> Spec | None:
        return self.plain.get(name) or self.qualified.get(name)


class Registry:
    """What the providers bring. `rows` tells all of it; nothing is imported beyond the providers themselves."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._algorithms: Shelf[AlgorithmSpec] = Shelf()
        self._datasets: Shelf[DatasetSpec] = Shelf()
        self._providers: dict[str, Provider] = {}
        self._plugins = pluggy.PluginManager(hookspecs.PROJECT)
        self._plugins.add_hookspecs(hookspecs)

    @classmethod
    def discover(
        cls,
        plugins: Sequence[str] = (),
        folders: Sequence[str] = (),
        disabled: Sequence[str] = (),
        strict: bool = False,
    ) -> Registry:
        """Find every provider, import it and ask it what it brings.

        plugins: files, package folders or dotted modules. folders: folders of plugins, before $TINYGEN_PLUGINS_DIR.
        disabled: names of providers that are not even imported, besides those in $TINYGEN_DISABLE.
        strict: raise PluginError for the first row that is not ok.
        Raises UsageError for a path that is not there.
        """
        registry = cls()
        named = (name.strip() for name in os.environ.get(DISABLED_VARIABLE, "").split(","))
        off = {*disabled, *named}
        for provider in find_providers(plugins, folders):
            if provider.name not in off:
                registry.add(provider)
        if strict:
            registry.require_ok()
        return registry

    def add(self, provider: Provider) -> None:
        """Load one provider and place what it brings. Whatever goes wrong in it becomes a row."""
        self._providers[provider.name] = provider
        try:
            plugin = provider.load()
            self._register(plugin, provider.name)
            algorithms = self._ask(plugin, "tinygen_algorithms")
            datasets = self._ask(plugin, "tinygen_datasets")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise SystemExit, or anything else, as it is imported
            if self._plugins.has_plugin(provider.name):
                self._plugins.unregister(name=provider.name)
            self.rows.append(_broken(provider, error))
            return
        for algorithm in self._of_type(AlgorithmSpec, algorithms, "tinygen_algorithms", provider):
            self._place_algorithm(_with_own_module(algorithm, provider, plugin), provider)
        for dataset in self._of_type(DatasetSpec, datasets, "tinygen_datasets", provider):
            self._place_dataset(_with_own_module(dataset, provider, plugin), provider)

    # ------------------------------------------------------------ what is asked of it

    @property
    def datasets(self) -> dict[str, DatasetSpec]:
        """The data sets by their plain names."""
        return dict(self._datasets.plain)

    def algorithm(self, name: str) -> AlgorithmSpec:
        """The spec of an algorithm by its name or by `provider:name`.

        Raises PluginError for the name of a broken provider, UsageError for a name that nobody brings.
        """
        return self._find(self._algorithms, name, "algorithm")

    def dataset(self, name: str) -> DatasetSpec:
        """The spec of a data set by its name or by `provider:name`; raises as `algorithm` does."""
        return self._find(self._datasets, name, "data set")

    def data(self, text: str) -> tuple[DatasetSpec, str]:
        """What `--data text` means, the data set and its argument; raises as `algorithm` does.

        `text` is name, name:argument, provider:name or provider:name:argument; a data set's name goes before a
        provider's.
        """
        name, _, argument = text.partition(":")
        qualified, _, rest = argument.partition(":")
        if name not in self._datasets.plain and f"{name}:{qualified}" in self._datasets.qualified:
            return self.dataset(f"{name}:{qualified}"), rest
        return self.dataset(name), argument

    def load(self, reference: str) -> Any:
        """The object that "module:name" refers to. Raises PluginError where it cannot be imported or is not there."""
        module_name, _, attribute = reference.partition(":")
        try:
            module = importlib.import_module(module_name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as in `add`
            where = location(error, [*self._roots(), module_root(module_name)])
            hint = _hint(error, "mend the module, or the reference in the plugin's spec")
            raise PluginError(f"{reference} cannot be imported: {describe(error, where)}", hint) from error
        if not hasattr(module, attribute):
            public = [name for name in vars(module) if not name.startswith("_")]
            raise PluginError(f"{reference}: {module_name} has no {attribute}", did_you_mean(attribute, public))
        return getattr(module, attribute)

    def callbacks(self, run: Any) -> list[Any]:
        """What the hooks `tinygen_callbacks(run)` return. A hook that fails is left out, with a warning and a row."""
        found: list[Any] = []
        for name, plugin in self._plugins.list_name_plugin():
            try:
                found += self._ask(plugin, "tinygen_callbacks", run=run)
            except Exception as error:
                row = _broken(self._providers[name], error)
                self.rows.append(row)
                warnings.warn(f"plugin {name} brings no callbacks: {row.reason}", RuntimeWarning, stacklevel=2)
        return found

    def require_ok(self) -> None:
        """Raise PluginError for the first row that is not ok."""
        for row in self.rows:
            if row.status != "ok":
                raise PluginError(f"plugin {row.provider}: {row.reason}", row.hint)

    def place_of(self, error: BaseException) -> str:
        """`file:line` of the innermost place of an error in any plugin's files; "" where it lies in none."""
        return location(error, self._roots())

    # ------------------------------------------------------------ loading one provider

    def _register(self, plugin: object, name: str) -> None:
        """Give a plugin to pluggy, which checks the arguments of its hooks; check the names of its hooks."""
        self._plugins.register(plugin, name)
        callers = self._plugins.get_hookcallers(plugin) or []
        for caller in callers:
            if not caller.has_spec():
                raise PluginError(f"there is no hook {caller.name}", did_you_mean(caller.name, list(HOOKS)))
        implemented = {caller.name for caller in callers}
        for hook in HOOKS:
            if hook not in implemented and inspect.isfunction(getattr(plugin, hook, None)):
                raise PluginError(f"{hook} is not marked as a hook", "write @hookimpl above it (from tinygen.host)")
        if not implemented:
            raise PluginError("it implements no hook", f"{_HOOKS_HINT}; a helper file's name begins with _")

    def _ask(self, plugin: object, hook: str, **arguments: Any) -> list[Any]:
        """What one plugin's implementations of a hook return, in one list."""
        items: list[Any] = []
        for implementation in getattr(self._plugins.hook, hook).get_hookimpls():
            if implementation.plugin is plugin:
                returned = implementation.function(**{name: arguments[name] for name in implementation.argnames})
                if not isinstance(returned, Iterable) or isinstance(returned, (str, bytes)):
                    raise PluginError(f"{hook} must return a list, got {returned!r}", f"let {hook} return […]")
                items += returned
        return items

    def _of_type(self, wanted: type[Spec], items: list[Any], hook: str, provider: Provider) -> list[Spec]:
        wrong = [item for item in items if not isinstance(item, wanted)]
        if wrong:
            what = ", ".join(map(repr, wrong))
            hint = f"let {hook} return {wanted.__name__} objects and nothing else"
            self.rows.append(_broken(provider, PluginError(f"{hook} must give {wanted.__name__}, got {what}", hint)))
        return [item for item in items if isinstance(item, wanted)]

    def _place_algorithm(self, spec: AlgorithmSpec, provider: Provider) -> None:
        holder = self._algorithms.put(spec, provider.name)
        if holder:
            self.rows.append(_conflict(spec, provider, holder, "algorithm", spec.family, spec.verbs))
        else:
            self.rows.append(
                Row(
                    name=spec.name, family=spec.family, summary=spec.summary, status="ok", verbs=spec.verbs,
                    provider=provider.name,
                )
            )  # fmt: skip

    def _place_dataset(self, spec: DatasetSpec, provider: Provider) -> None:
        holder = self._datasets.put(spec, provider.name)
        if holder:
            self.rows.append(_conflict(spec, provider, holder, "data set", "data", ()))

    # ------------------------------------------------------------ helpers

    def _roots(self) -> list[str]:
        return [provider.root for name, provider in self._providers.items() if name != "core"]

    def _find(self, shelf: Shelf[Spec], name: str, kind: str) -> Spec:
        spec = shelf.get(name)
        if spec is not None:
            return spec
        broken = [row for row in self.rows if row.status == "broken"]
        for row in broken:
            if row.provider == name.partition(":")[0]:
                raise PluginError(f"plugin {row.provider} is broken: {row.reason}", row.hint)
        hint = did_you_mean(name, list(shelf.plain))
        if broken:
            hint += f"; broken and left out: {', '.join(row.provider for row in broken)} (tinygen list tells why)"
        raise UsageError(f'there is no {kind} "{name}"', hint)


def _with_own_module(spec: Spec, provider: Provider, plugin: object) -> Spec:
    """A file's specs may name their module by the file's stem; it is imported under a name that shadows nothing."""
    if not provider.stem:
        return spec
    fields = ("factory", "config") if isinstance(spec, AlgorithmSpec) else ("factory",)
    references = {}
    for name in fields:
        module, colon, attribute = getattr(spec, name).partition(":")
        head, *rest = module.split(".")
        if head == provider.stem:
            references[name] = ".".join([getattr(plugin, "__name__", head), *rest]) + colon + attribute
    return replace(spec, **references)


def _broken(provider: Provider, error: BaseException) -> Row:
    reason = describe(error, location(error, [provider.root]))
    hint = _hint(error, f"mend it, or leave it out with --disable {provider.name}")
    return Row(
        name=provider.name, family="", summary="", status="broken", verbs=(), provider=provider.name, reason=reason,
        hint=hint,
    )  # fmt: skip


def _conflict(
    spec: AlgorithmSpec | DatasetSpec, provider: Provider, holder: str, kind: str, family: str, verbs: tuple[str, ...]
) -> Row:
    if holder == provider.name:
        reason, hint = f'{provider.name} brings two of the {kind} "{spec.name}"', "give one of them another name"
    else:
        reason = f'the {kind} "{spec.name}" is already brought by {holder}'
        hint = f"call this one {provider.name}:{spec.name}, or leave one out with --disable"
    return Row(
        name=spec.name, family=family, summary=spec.summary, status="conflict", verbs=verbs,
        provider=provider.name, reason=reason, hint=hint,
    )  # fmt: skip


def _hint(error: BaseException, otherwise: str) -> str:
    if isinstance(error, TinygenError) and error.hint:
        return error.hint
    if isinstance(error, pluggy.PluginValidationError):
        return _HOOKS_HINT
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install {error.name.partition('.')[0]}, or {otherwise}"
    return otherwise
