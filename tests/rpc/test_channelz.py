"""Channelz: the connections of a server, for callers who debug it, where a setting allows it."""

from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

from tests.running import Api, running_service, settings_for


def test_channelz_shows_the_connections_of_the_server_to_a_caller(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, channelz=True)
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        Api(channel).create()
        stub: Any = channelz_pb2_grpc.ChannelzStub(channel)
        metadata = (("x-user-id", "operator"),)
        servers = stub.GetServers(channelz_pb2.GetServersRequest(), metadata=metadata).server
        port = int(address.rpartition(":")[2])
        sockets = [
            stub.GetSocket(channelz_pb2.GetSocketRequest(socket_id=each.socket_id), metadata=metadata).socket
            for server in servers
            for each in stub.GetServerSockets(
                channelz_pb2.GetServerSocketsRequest(server_id=server.ref.server_id), metadata=metadata
            ).socket_ref
        ]
        assert port in {each.local.tcpip_address.port for each in sockets}
        assert max(each.data.streams_started for each in sockets) > 1
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetServers(channelz_pb2.GetServersRequest())
        assert refused.value.code() is StatusCode.UNAUTHENTICATED


def test_channelz_is_off_unless_a_setting_allows_it(sqlite_channel: grpc.Channel) -> None:
    stub: Any = channelz_pb2_grpc.ChannelzStub(sqlite_channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.GetServers(channelz_pb2.GetServersRequest(), metadata=(("x-user-id", "operator"),))
    assert refused.value.code() is StatusCode.UNIMPLEMENTED
