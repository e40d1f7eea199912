"""Tests of single modules: no process, no network, no disk but a temporary folder."""
