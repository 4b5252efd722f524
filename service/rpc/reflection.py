"""Server reflection, v1 and v1alpha, that also shows the proto's comments.

protoc leaves comments out of the descriptors in generated Python code, and grpcio-reflection serves only v1alpha.
"""

from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc.aio import Server
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service.rpc.policy import REFLECTION


class CommentedReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """Reflection over this server's services and error details, with the comments of taskwell.v1."""

    def __init__(self, service_names: tuple[str, ...]) -> None:
        bundle = files("taskwell.v1").joinpath("taskwell.protoset").read_bytes()
        commented = descriptor_pb2.FileDescriptorSet.FromString(bundle).file
        self._descriptors = _pool_of(*commented, *_own_files())
        super().__init__(service_names, self._descriptors)
        # A descriptor pool drops comments, so the files of taskwell.v1 are answered from the bundle.
        self._commented = {file.name: file.SerializeToString() for file in commented}

    async def ServerReflectionInfo(self, request_iterator, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, N802
        async for request in request_iterator:
            async for response in super().ServerReflectionInfo(_only(self._with_service(request)), context):
                response.original_request.CopyFrom(request)
                found = response.file_descriptor_response.file_descriptor_proto
                for index, serialized in enumerate(found):
                    name = descriptor_pb2.FileDescriptorProto.FromString(serialized).name
                    found[index] = self._commented.get(name, serialized)
                yield response

    def _with_service(self, request: Any) -> Any:  # noqa: ANN401 - a ServerReflectionRequest, which has no types
        """The request, asking for the service where it asks for one of the service's methods.

        `grpcurl describe` asks for methods by their full names, which a descriptor pool does not know.
        """
        service, _, method = request.file_containing_symbol.rpartition(".")
        try:
            if method in self._descriptors.FindServiceByName(service).methods_by_name:
                return reflection_pb2.ServerReflectionRequest(host=request.host, file_containing_symbol=service)
        except KeyError:
            pass
        return request


async def _only(request: Any) -> AsyncIterator[Any]:  # noqa: ANN401
    yield request


def _own_files() -> Iterator[descriptor_pb2.FileDescriptorProto]:
    """The descriptors of reflection itself: v1alpha, and v1, which is the same under another name."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    yield file
    text = text_format.MessageToString(file)
    yield text_format.Parse(text.replace("v1alpha", "v1"), descriptor_pb2.FileDescriptorProto())


def _pool_of(*proto_files: descriptor_pb2.FileDescriptorProto) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in proto_files:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def add_reflection(server: Server, service_names: tuple[str, ...]) -> None:
    """Serve reflection of these services, as v1 and as v1alpha: their messages are the same on the wire."""
    servicer = CommentedReflection((*service_names, *REFLECTION))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in REFLECTION:
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler}),)
        )
