"""What the gRPC library is told of the settings."""

from service.config.settings import Settings


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """The limits that gRPC itself keeps, as channel arguments (grpc/impl/channel_arg_names.h)."""

    def ms(seconds: float) -> int:
        return round(seconds * 1000)

    return [
        # A message somewhat over the limit is read and refused with details, by Calls; gRPC cuts off the really large.
        ("grpc.max_receive_message_length", 4 * settings.max_message_bytes),
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        # Beyond these the core answers CANCELLED by chance; our own limit answers RESOURCE_EXHAUSTED with details.
        ("grpc.server.max_pending_requests", 16 * settings.max_in_flight),
        ("grpc.server.max_pending_requests_hard_limit", 32 * settings.max_in_flight),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", ms(settings.handshake_timeout)),
        # gRPC holds a client to the limit of metadata from when it has acknowledged it; before, it takes 16 MiB.
        ("grpc.http2.settings_timeout", ms(settings.handshake_timeout)),
        ("grpc.keepalive_time_ms", ms(settings.keepalive_time)),
        ("grpc.keepalive_timeout_ms", ms(settings.keepalive_timeout)),
        # Without this one a ping may stay unanswered for a minute, whatever the keepalive timeout says.
        ("grpc.http2.ping_timeout_ms", ms(settings.keepalive_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", ms(settings.keepalive_min_interval)),
        ("grpc.max_connection_idle_ms", ms(settings.max_connection_idle)),
        ("grpc.max_connection_age_ms", ms(settings.max_connection_age)),
        ("grpc.max_connection_age_grace_ms", ms(settings.max_connection_age_grace)),
    ]
