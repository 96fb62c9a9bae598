/*
 * A fuzzer without libFuzzer: every file of the corpus, then random bytes, the same in each run. So every compiler and
 * machine that runs the tests replays what the fuzzers have found.
 *
 * Usage: fuzz_NAME CORPUS COUNT   (COUNT random inputs)
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_BYTES = 4096, RANDOM_BYTES = 96 };

static size_t replay(const char *folder) {
    size_t files = 0;
    DIR *const entries = opendir(folder);
    for (const struct dirent *entry; entries && (entry = readdir(entries)) != NULL;) {
        char path[4096];
        uint8_t data[MOST_BYTES];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *const file = fopen(path, "rb");
        if (!file) continue;
        const size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        (void)LLVMFuzzerTestOneInput(data, size);
        files++;
    }
    if (entries) closedir(entries);
    return files;
}

static uint64_t splitmix(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s CORPUS COUNT\n", argv[0]);
        return 2;
    }
    const size_t files = replay(argv[1]), count = (size_t)strtoull(argv[2], NULL, 10);
    if (!files) {
        fprintf(stderr, "%s: nothing there\n", argv[1]);
        return 1;
    }
    uint64_t state = 1;
    for (size_t i = 0; i < count; i++) {
        uint8_t data[RANDOM_BYTES];
        for (size_t j = 0; j < sizeof data; j++) data[j] = (uint8_t)splitmix(&state);
        (void)LLVMFuzzerTestOneInput(data, sizeof data);
    }
    printf("%lu files and %lu random inputs\n", (unsigned long)files, (unsigned long)count);
    return 0;
}
