"""Entities, rules, errors and ports. No I/O, and no import of other packages of Tracker."""
