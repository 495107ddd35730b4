/* Feeds files, or every file of folders, to a fuzz target: the corpus as an ordinary test. */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replay_file(const char *path)
{
    static uint8_t data[1u << 20];
    FILE *file = fopen(path, "re");
    uint8_t *copy;
    size_t size;

    if (!file) {
        perror(path);
        exit(1);
    }
    size = fread(data, 1, sizeof data, file);
    (void)fclose(file);
    copy = malloc(size ? size : 1); /* exactly as large, so that a sanitizer sees each overrun */
    if (!copy)
        exit(1);
    for (size_t i = 0; i < size; i++)
        copy[i] = data[i];
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    return 1;
}

static unsigned replay(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    if (!dir)
        return replay_file(path);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char below[PATH_MAX];

        if (entry->d_name[0] != '.' &&
            snprintf(below, sizeof below, "%s/%s", path, entry->d_name) < (int)sizeof below)
            count += replay_file(below);
    }
    (void)closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    unsigned count = 0;

    for (int i = 1; i < argc; i++)
        count += replay(argv[i]);
    printf("%u inputs\n", count);
    return count == 0;
}
