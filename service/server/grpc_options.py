"""Translates settings into gRPC channel arguments.

The gRPC core ignores unknown arguments in silence; tests/layers/test_private_apis.py checks that it knows these.
"""

from service.config.settings import Settings

# Longest wait for a client to acknowledge this server's HTTP/2 settings (s).
_SETTINGS_TIMEOUT = 5.0
# Calls that the core holds until this process takes them, however few may be in flight.
_MIN_PENDING = 8192
# Finished streams of a connection that may still be allocated, per stream that it may have open.
_DEALLOCATING = 10


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """Return the limits that gRPC itself enforces (grpc/impl/channel_arg_names.h)."""

    def ms(seconds: float) -> int:
        return round(seconds * 1000)

    pending = max(_MIN_PENDING, 16 * settings.max_in_flight)
    return [
        # CallInterceptor refuses a message over the limit, with details; gRPC refuses one of more than four times.
        ("grpc.max_receive_message_length", 4 * settings.max_message_bytes),
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        # Against rapid resets, gRPC refuses a stream (REFUSED_STREAM) while too many are allocated. A finished stream
        # stays allocated until this process frees its call, so a busy client needs room for those as well.
        ("grpc.http2.max_deallocating_streams", _DEALLOCATING * settings.max_concurrent_streams),
        # Beyond these, the core cancels calls at random; CallLimits refuses calls earlier, with details.
        ("grpc.server.max_pending_requests", pending),
        ("grpc.server.max_pending_requests_hard_limit", 2 * pending),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", ms(settings.handshake_timeout)),
        # gRPC enforces the metadata limit once the client has acknowledged it; until then a client may send 16 MiB per
        # stream. An acknowledgement takes one round trip.
        ("grpc.http2.settings_timeout", ms(min(settings.handshake_timeout, _SETTINGS_TIMEOUT))),
        ("grpc.keepalive_time_ms", ms(settings.keepalive_time)),
        ("grpc.keepalive_timeout_ms", ms(settings.keepalive_timeout)),
        # Without this, a ping times out after a minute, whatever the keepalive timeout is.
        ("grpc.http2.ping_timeout_ms", ms(settings.keepalive_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", ms(settings.keepalive_min_interval)),
        ("grpc.max_connection_idle_ms", ms(settings.max_connection_idle)),
        ("grpc.max_connection_age_ms", ms(settings.max_connection_age)),
        ("grpc.max_connection_age_grace_ms", ms(settings.max_connection_age_grace)),
    ]
