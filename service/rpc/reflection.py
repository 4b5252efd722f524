"""Server reflection, v1 and v1alpha, that also shows the proto's comments.

The generator for Python strips comments from the descriptors that it embeds, and grpcio-reflection knows v1alpha alone.
"""

from importlib.resources import files

import grpc
from google.protobuf import descriptor_pb2
from grpc.aio import Server
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service.rpc.policy import REFLECTION


class CommentedReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """Reflection over the descriptors of this process, with those of taskwell.v1 replaced by commented ones."""

    def __init__(self, service_names: tuple[str, ...]) -> None:
        super().__init__(service_names)
        bundle = files("taskwell.v1").joinpath("taskwell.protoset").read_bytes()
        commented = descriptor_pb2.FileDescriptorSet.FromString(bundle)
        self._commented = {file.name: file.SerializeToString() for file in commented.file}

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
