"""Commands of plugins. Imports nothing heavy, so that the list of commands is quick."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache

import click

from tracker.domain.errors import InvalidValue
from tracker.plugins import Plugin, described, installed
from tracker.settings import Settings

log = logging.getLogger("tracker")


def plugin_commands(taken: frozenset[str]) -> Mapping[str, click.Command]:
    """The commands of plugins by name, without names that are `taken`."""
    try:
        return _commands(Settings.from_environment(), taken)
    except InvalidValue:
        return {}  # a command that needs the settings reports the error itself


@cache
def _commands(settings: Settings, taken: frozenset[str]) -> Mapping[str, click.Command]:
    found: dict[str, click.Command] = {}
    for plugin, commands in installed(settings).call("commands", _failed):
        try:
            for command in commands:
                _add(found, plugin, command, taken)
        except Exception as error:
            _failed(plugin, error)
    return found


def _add(found: dict[str, click.Command], plugin: Plugin, command: object, taken: frozenset[str]) -> None:
    if not isinstance(command, click.Command) or not command.name:
        log.warning(
            "the plugin %s has %r among its commands, which is not a click command with a name", plugin.name, command
        )
    elif command.name in taken or command.name in found:
        log.warning("the plugin %s has the command %s, which exists already", plugin.name, command.name)
    else:
        found[command.name] = command


def _failed(plugin: Plugin, error: BaseException) -> None:
    log.warning("the plugin %s failed in its hook commands: %s", plugin.name, described(error))
