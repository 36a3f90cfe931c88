/* Loaded before the C library (LD_PRELOAD): keeps what each fsync and fdatasync has put on the disk.
 *
 * After a file is synced, its contents are copied to POINTSMAN_POWER_CUT_TO, after a folder the names in it.
 * A copy is named TIME-FILE, where FILE is the inode and its time of birth: inodes are used again. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int identity(int folder, const char *name, int flags, char *out, size_t size, int *mode)
{
    struct statx status;
    if (statx(folder, name, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &status))
        return -1;
    *mode = status.stx_mode;
    snprintf(out, size, "%llu.%lld.%u", (unsigned long long)status.stx_ino,
             (long long)status.stx_btime.tv_sec, status.stx_btime.tv_nsec);
    return 0;
}

static void copy_file(const char *from, FILE *to)
{
    char piece[65536];
    size_t count;
    FILE *file = fopen(from, "re");
    while (file && (count = fread(piece, 1, sizeof piece, file)) > 0)
        fwrite(piece, 1, count, to);
    if (file)
        fclose(file);
}

static void copy_names(const char *from, FILE *to)
{
    char which[96];
    int mode;
    DIR *folder = opendir(from);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
            !identity(dirfd(folder), entry->d_name, 0, which, sizeof which, &mode))
            fprintf(to, "%c %s %s\n", S_ISDIR(mode) ? 'd' : S_ISREG(mode) ? 'f' : 'o', which, entry->d_name);
    if (folder)
        closedir(folder);
}

static void keep(int descriptor)
{
    char link[64], path[PATH_MAX], which[96], draft[PATH_MAX], name[PATH_MAX];
    const char *root = getenv("POINTSMAN_POWER_CUT_OF"), *to = getenv("POINTSMAN_POWER_CUT_TO");
    int mode;
    struct timespec now;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!root || !to || length < 0)
        return;
    path[length] = 0;
    if (strncmp(path, root, strlen(root)) || identity(descriptor, "", AT_EMPTY_PATH, which, sizeof which, &mode))
        return;
    snprintf(draft, sizeof draft, "%s/.%d.%d", to, gettid(), descriptor);
    FILE *file = fopen(draft, "we");
    if (!file)
        abort();
    if (S_ISDIR(mode))
        copy_names(link, file);
    else
        copy_file(link, file);
    if (fclose(file))
        abort();
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(name, sizeof name, "%s/%lld%09ld-%s", to, (long long)now.tv_sec, now.tv_nsec, which);
    if (rename(draft, name))
        abort();
}

#define SYNC(call)                                                                                             \
    int call(int descriptor)                                                                                   \
    {                                                                                                          \
        static int (*real)(int);                                                                               \
        if (!real)                                                                                             \
            real = (int (*)(int))dlsym(RTLD_NEXT, #call);                                                      \
        int result = real(descriptor);                                                                         \
        if (!result)                                                                                           \
            keep(descriptor);                                                                                  \
        return result;                                                                                         \
    }

SYNC(fsync)
SYNC(fdatasync)
