"""Traces: spans of calls and statements, by OpenTelemetry. Imported only when traces are on."""
