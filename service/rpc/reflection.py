"""Server reflection, v1 and v1alpha, that also shows the proto's comments.

The generator for Python strips comments from the descriptors that it embeds, and grpcio-reflection knows v1alpha alone.
"""

from collections.abc import Iterator
from importlib.resources import files

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc.aio import Server
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service.rpc.policy import REFLECTION


class CommentedReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """Reflection over the services of this server, with the comments of taskwell.v1, and over what errors carry."""

    def __init__(self, service_names: tuple[str, ...]) -> None:
        bundle = files("taskwell.v1").joinpath("taskwell.protoset").read_bytes()
        commented = descriptor_pb2.FileDescriptorSet.FromString(bundle).file
        super().__init__(service_names, _pool_of(*commented, *_own_files()))
        # A pool forgets comments as well, so what it finds is answered from the bundle.
        self._commented = {file.name: file.SerializeToString() for file in commented}

    async def ServerReflectionInfo(self, request_iterator, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, N802
        async for response in super().ServerReflectionInfo(request_iterator, context):
            found = response.file_descriptor_response.file_descriptor_proto
            for index, serialized in enumerate(found):
                name = descriptor_pb2.FileDescriptorProto.FromString(serialized).name
                found[index] = self._commented.get(name, serialized)
            yield response

    def _file_containing_symbol(self, request, fully_qualified_name):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        # The pool does not know methods by their full names, which is what `grpcurl describe` asks for.
        service, _, method = fully_qualified_name.rpartition(".")
        try:
            if method in self._pool.FindServiceByName(service).methods_by_name:
                fully_qualified_name = service
        except KeyError:
            pass
        return super()._file_containing_symbol(request, fully_qualified_name)


def _own_files() -> Iterator[descriptor_pb2.FileDescriptorProto]:
    """Both versions of reflection itself: v1 is v1alpha by another name."""
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
    """Serve reflection of these services. The messages of v1 and v1alpha are the same on the wire; the names differ."""
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
