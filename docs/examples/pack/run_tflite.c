/* Answer what `patchbench pack` wrote, with LiteRT on the CPU: run_tflite PACK ANSWERS */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *Handle; /* litert/c/ of LiteRT: pointers to what it alone knows, and 0 where all is well */
int LiteRtCreateEnvironment(int, const void *, Handle *);
int LiteRtCreateModelFromFile(Handle, const char *, Handle *);
int LiteRtCreateOptions(Handle *), LiteRtSetOptionsHardwareAccelerators(Handle, int);
int LiteRtCreateCompiledModel(Handle, Handle, Handle, Handle *);
int LiteRtGetModelSubgraph(Handle, size_t, Handle *);
int LiteRtGetSubgraphInput(Handle, size_t, Handle *), LiteRtGetSubgraphOutput(Handle, size_t, Handle *);
int LiteRtGetRankedTensorType(Handle, void *);
int LiteRtGetCompiledModelInputBufferRequirements(Handle, size_t, size_t, Handle *);
int LiteRtGetCompiledModelOutputBufferRequirements(Handle, size_t, size_t, Handle *);
int LiteRtCreateManagedTensorBufferFromRequirements(Handle, const void *, Handle, Handle *);
int LiteRtLockTensorBuffer(Handle, void **, int), LiteRtUnlockTensorBuffer(Handle);
int LiteRtRunCompiledModel(Handle, size_t, size_t, Handle *, size_t, Handle *);

static void check(int failed, const char *what) {
    if (failed) { fprintf(stderr, "%s: failed (%d)\n", what, failed); exit(1); }
}

static uint32_t crc32(const uint8_t *byte, size_t n) { /* as in zlib */
    uint32_t crc = ~0u;
    while (n--) {
        crc ^= *byte++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static FILE *open_in(const char *folder, const char *name, const char *mode, char path[4096]) {
    snprintf(path, 4096, "%s/%s", folder, name);
    FILE *file = fopen(path, mode);
    check(!file, path);
    return file;
}

static void answer(const char *model, FILE *from, FILE *to, size_t images, size_t in_bytes, size_t out_bytes) {
    Handle environment, file, options, network, graph, tensor[2], needs[2], buffer[2];
    uint64_t type[64];
    void *memory;
    check(LiteRtCreateEnvironment(0, NULL, &environment), "environment");
    check(LiteRtCreateModelFromFile(environment, model, &file), model);
    check(LiteRtCreateOptions(&options) || LiteRtSetOptionsHardwareAccelerators(options, 1), "options"); /* CPU */
    check(LiteRtCreateCompiledModel(environment, file, options, &network), model);
    check(LiteRtGetModelSubgraph(file, 0, &graph) || LiteRtGetSubgraphInput(graph, 0, &tensor[0]) ||
          LiteRtGetSubgraphOutput(graph, 0, &tensor[1]), "tensors");
    check(LiteRtGetCompiledModelInputBufferRequirements(network, 0, 0, &needs[0]) ||
          LiteRtGetCompiledModelOutputBufferRequirements(network, 0, 0, &needs[1]), "buffers");
    for (int i = 0; i < 2; i++)
        check(LiteRtGetRankedTensorType(tensor[i], type) ||
              LiteRtCreateManagedTensorBufferFromRequirements(environment, type, needs[i], &buffer[i]), "buffer");
    while (images--) {
        check(LiteRtLockTensorBuffer(buffer[0], &memory, 1), "input"); /* to write */
        check(fread(memory, in_bytes, 1, from) != 1, "inputs");
        uint32_t of_input = crc32(memory, in_bytes);
        check(LiteRtUnlockTensorBuffer(buffer[0]), "input");
        check(LiteRtRunCompiledModel(network, 0, 1, &buffer[0], 1, &buffer[1]), "run");
        check(LiteRtLockTensorBuffer(buffer[1], &memory, 0), "output"); /* to read */
        check(fwrite(&of_input, 4, 1, to) != 1 || fwrite(memory, out_bytes, 1, to) != 1, "answers");
        check(LiteRtUnlockTensorBuffer(buffer[1]), "output");
    }
    check(fclose(to), "answers");
}

int main(int count, char **words) {
    char model[512], in[512], out[512], path[4096];
    size_t images, in_bytes, out_bytes;
    check(count != 3, "run_tflite PACK ANSWERS");
    FILE *list = open_in(words[1], "list.txt", "r", path);
    while (fscanf(list, "%511s %511s %511s %zu %zu %zu", model, in, out, &images, &in_bytes, &out_bytes) == 6) {
        FILE *from = open_in(words[1], in, "rb", path), *to = open_in(words[2], out, "wb", path);
        snprintf(path, sizeof path, "%s/%s", words[1], model);
        answer(path, from, to, images, in_bytes, out_bytes);
    }
    return 0;
}
