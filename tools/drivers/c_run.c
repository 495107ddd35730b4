/*
 * Running a cell: each runs in a copy of the process that holds the state.  When it comes through,
 * the copy is the state from then on and the older process ends; when it crashes or is interrupted,
 * the older one goes on as if nothing had been.
 *
 * The first process only waits, so that its number stays the run's: it adopts what is orphaned.
 */

#define TEXT_MAX   60000
#define ERRORS_MAX 32768

struct shared {
    volatile pid_t state; /* the process that holds the state */
};

static struct shared *shared;
static int control_in, control_out;
static const char *compiler, *folder;
static struct text shown; /* the value of this cell */

/* ---- talking to the other side ---- */

static void send_bytes(const char *at, size_t len)
{
    while (len > 0) {
        ssize_t n = write(control_out, at, len);

        if (n < 0 && errno != EINTR)
            _exit(1);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
}

static void send_frame(const char *name, int cell, long number, const char *data, size_t len)
{
    struct text head = { NULL, 0, 0 };

    put(&head, "%s %d %ld %zu\n", name, cell, number, len);
    put_bytes(&head, data, len);
    send_bytes(head.data, head.len);
    free(head.data);
}

static void send_text(const char *name, int cell, const char *text)
{
    send_frame(name, cell, 0, text, strnlen(text, TEXT_MAX));
}

static void receive(char *to, size_t len)
{
    while (len > 0) {
        ssize_t n = read(control_in, to, len);

        if (n == 0)
            _exit(0);
        if (n < 0 && errno != EINTR)
            _exit(1);
        if (n > 0) {
            to += n;
            len -= (size_t)n;
        }
    }
}

static void receive_line(char *to, size_t size)
{
    size_t at = 0;

    do {
        receive(to + at, 1);
    } while (to[at] != '\n' && ++at + 1 < size);
    to[at] = '\0';
}

/* ---- what cells call ---- */

void cell_copy(void *to, const void *from, unsigned long len);
void cell_copy(void *to, const void *from, unsigned long len)
{
    memcpy(to, from, len);
}

int cell_main(int (*entry)());
int cell_main(int (*entry)())
{
    char name[] = "cell", *args[] = { name, NULL };
    int status = entry(1, args, environ);

    if (status != 0)
        put(&shown, "main() returned %d", status);
    return 0;
}

static void show_char(int c)
{
    if (isprint(c))
        put(&shown, "'%c' (%d)", c, c);
    else
        put(&shown, "%d", c);
}

void cell_show(int kind, int class, const void *p, unsigned long len);
void cell_show(int kind, int class, const void *p, unsigned long len)
{
    switch (kind) {
    case 1:
        put(&shown, "%s", *(const bool *)p ? "true" : "false");
        return;
    case 2:
    case 3:
        show_char(*(const signed char *)p);
        return;
    case 4:
        show_char(*(const unsigned char *)p);
        return;
    case 5:
        put(&shown, "%d", *(const short *)p);
        return;
    case 6:
        put(&shown, "%d", *(const unsigned short *)p);
        return;
    case 7:
        put(&shown, "%d", *(const int *)p);
        return;
    case 8:
        put(&shown, "%u", *(const unsigned *)p);
        return;
    case 9:
        put(&shown, "%ld", *(const long *)p);
        return;
    case 10:
        put(&shown, "%lu", *(const unsigned long *)p);
        return;
    case 11:
        put(&shown, "%lld", *(const long long *)p);
        return;
    case 12:
        put(&shown, "%llu", *(const unsigned long long *)p);
        return;
    case 13:
        put(&shown, "%.9g", (double)*(const float *)p);
        return;
    case 14:
        put(&shown, "%.17g", *(const double *)p);
        return;
    case 15:
        put(&shown, "%.21Lg", *(const long double *)p);
        return;
    case 16:
        if (*(char *const *)p)
            put(&shown, "\"%.*s\"", TEXT_MAX, *(char *const *)p);
        else
            put(&shown, "NULL");
        return;
    default:
        break;
    }
    if (class == 5) { /* a pointer */
        put(&shown, "%p", *(void *const *)p);
        return;
    }
    put(&shown, "%lu bytes:", len);
    for (unsigned long i = 0; i < len && i < 256; i++)
        put(&shown, " %02x", ((const unsigned char *)p)[i]);
}

/* ---- compiling ---- */

static bool write_file(const char *path, const struct text *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t at = 0;

    while (fd >= 0 && at < text->len) {
        ssize_t n = write(fd, text->data + at, text->len - at);

        if (n <= 0)
            break;
        at += (size_t)n;
    }
    return fd >= 0 && close(fd) == 0 && at == text->len;
}

/* What the compiler says goes to @errors. */
static bool run_compiler(const char *source, const char *object, struct text *errors)
{
    const char *args[] = { compiler,  "-std=gnu11", "-O1",
                           "-shared", "-fPIC",      "-fdiagnostics-color=never",
                           "-o",      object,       source,
                           "-lm",     "-lpthread",  NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t interrupt;
    char piece[4096];
    char *vector[sizeof args / sizeof args[0]];
    int fds[2], status = 1;
    ssize_t n;
    pid_t pid;

    memcpy(vector, args, sizeof vector);
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigdefault(&attr, &interrupt);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    if (posix_spawnp(&pid, compiler, &actions, &attr, vector, environ) != 0)
        pid = -1;
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    close(fds[1]);
    while ((n = read(fds[0], piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0 && errors->len < ERRORS_MAX)
            put_bytes(errors, piece, (size_t)n);
    close(fds[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool compile(const struct unit *u, const char *object, struct text *errors)
{
    char *source = format_text("%s/cell-%d.c", folder, u->cell);
    bool ok = false;

    /* An expression without a value, such as a call of a void function, cannot be shown. */
    for (int show = u->value_to > u->value_from; show >= 0 && !ok; show--) {
        struct text text = { NULL, 0, 0 };

        unit_write(u, show, &text);
        errors->len = 0;
        put(errors, "%s", "");
        ok = write_file(source, &text) && run_compiler(source, object, errors);
        free(text.data);
    }
    (void)unlink(source);
    free(source);
    return ok;
}

/* ---- running ---- */

static long micros_since(const struct timespec *begin)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - begin->tv_sec) * 1000000 + (now.tv_nsec - begin->tv_nsec) / 1000;
}

/* The sizes of arrays that had none in their declaration: "[]" becomes "[3]". */
static void fill_sizes(void *library, struct entries *all)
{
    for (size_t i = 0; i < all->count; i++) {
        struct entry *e = &all->at[i];
        const unsigned long *n = e->count ? dlsym(library, e->count) : NULL;
        char *open = n ? strchr(e->declaration, '[') : NULL;

        if (open) {
            char *sized = format_text("%.*s%lu%s", (int)(open + 1 - e->declaration), e->declaration,
                                      *n, strchr(open, ']'));

            free(e->declaration);
            e->declaration = sized;
        }
        free(e->count);
        e->count = NULL;
    }
}

/* In the copy.  Returns when the cell came through. */
static bool execute(struct unit *u, const char *object)
{
    char *name = format_text("cell_%d", u->cell);
    void *library = dlopen(object, RTLD_NOW | RTLD_GLOBAL);
    int (*entry)(void) = NULL;

    (void)unlink(object);
    if (library)
        *(void **)&entry = dlsym(library, name);
    free(name);
    if (!entry) {
        const char *why = dlerror();

        send_text("error", u->cell, why ? why : "the cell could not be loaded");
        if (library)
            (void)dlclose(library);
        return false;
    }
    fill_sizes(library, &u->entries);
    signal(SIGINT, SIG_DFL);
    (void)entry();
    signal(SIGINT, SIG_IGN);
    fflush(NULL);
    entries_free(&known);
    known = u->entries;
    u->entries = (struct entries){ NULL, 0, 0 };
    return true;
}

/* Waits for the copy @pid: true when it has taken over, which it says by a byte on @fd. */
static bool wait_for(pid_t pid, int fd, int *ret_status)
{
    int watch = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd polls[2] = { { .fd = fd, .events = POLLIN }, { .fd = watch, .events = POLLIN } };
    char said = 0;

    for (;;) {
        bool over;

        (void)poll(polls, watch >= 0 ? 2 : 1, watch >= 0 ? -1 : 20);
        over = waitpid(pid, ret_status, WNOHANG) == pid;
        if ((over || polls[0].revents) && read(fd, &said, 1) == 1)
            return true;
        if (over)
            return false;
        if (polls[0].revents) /* closed by the cell: only the end counts now */
            polls[0].fd = -1;
    }
}

static void tell_end(int cell, int status)
{
    char *text;

    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT)
        text = format_text("Interrupted: the state is as it was before this cell");
    else if (WIFSIGNALED(status))
        text = format_text("%s (SIG%s): the state is as it was before this cell",
                           strsignal(WTERMSIG(status)), sigabbrev_np(WTERMSIG(status)));
    else
        text = format_text("the cell called exit(%d): the state is as it was before this cell",
                           WEXITSTATUS(status));
    send_text("error", cell, text);
    free(text);
}

static void run_unit(struct unit *u, const char *object, const struct timespec *begin)
{
    int fds[2], status = 0;
    pid_t pid = -1;

    fflush(NULL);
    if (pipe2(fds, O_CLOEXEC) == 0)
        pid = fork();
    if (pid < 0) {
        send_text("error", u->cell, "there is no room for the process that the cell needs");
    } else if (pid == 0) {
        bool through = execute(u, object);

        if (!through)
            send_frame("done", u->cell, micros_since(begin), "", 0);
        shared->state = getpid();
        if (write(fds[1], "k", 1) != 1)
            _exit(1);
        close(fds[0]);
        close(fds[1]);
        if (!through)
            return;
        if (shown.len > 0)
            send_text("value", u->cell, shown.data);
        shown.len = 0;
    } else {
        close(fds[1]);
        if (wait_for(pid, fds[0], &status))
            _exit(0);
        close(fds[0]);
        tell_end(u->cell, status);
    }
    send_frame("done", u->cell, micros_since(begin), "", 0);
}

static void run(int cell, const char *code, size_t len)
{
    char *object = format_text("%s/cell-%d.so", folder, cell);
    struct text errors = { NULL, 0, 0 };
    struct scan scan = { NULL, 0, 0, NULL, 0, 0 };
    struct timespec begin;
    struct unit unit;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    tokenize(&scan, code, len);
    split(&scan);
    unit_make(&unit, &scan, cell);
    if (compile(&unit, object, &errors)) {
        if (errors.len > 0)
            (void)!write(2, errors.data, errors.len); /* warnings */
        run_unit(&unit, object, &begin);
    } else {
        send_text("error", cell, errors.len > 0 ? errors.data : "the compiler gave up");
        send_frame("done", cell, micros_since(&begin), "", 0);
    }
    (void)unlink(object);
    unit_free(&unit);
    scan_free(&scan);
    free(errors.data);
    free(object);
}

static void hold_state(void)
{
    char line[128];

    for (;;) {
        char *length, *end, *code;
        size_t len;
        int cell;

        receive_line(line, sizeof line);
        if (strncmp(line, "run ", 4) != 0)
            continue;
        cell = (int)strtol(line + 4, &length, 10);
        len = strtoul(length, &end, 10);
        if (length > line + 4 && end > length && len < SIZE_MAX) {
            code = must(malloc(len + 1));
            receive(code, len);
            code[len] = '\0';
            run(cell, code, len);
            free(code);
        }
    }
}

int main(int argc, char **argv)
{
    int status;
    pid_t pid;

    if (argc != 3)
        return 1;
    compiler = argv[1];
    folder = argv[2];
    control_in = fcntl(3, F_DUPFD_CLOEXEC, 200);
    control_out = fcntl(4, F_DUPFD_CLOEXEC, 200);
    close(3);
    close(4);
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGINT, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    unlink(argv[0]);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    pid = fork();
    if (pid < 0)
        return 1;
    if (pid == 0) {
        shared->state = getpid();
        hold_state();
    }
    while ((pid = waitpid(-1, &status, 0)) > 0 || errno == EINTR)
        if (pid > 0 && pid == shared->state)
            break;
    (void)rmdir(folder);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
