/* SPDX-License-Identifier: Apache-2.0 */
/* Uses CPU time in one of several ways: cpu_load CGROUP.PROCS KIND SECONDS [SEED]. Prints how many processes
 * it made. */
#include <err.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull

static uint64_t end_ns, seed;
static unsigned long made;

static uint64_t now_ns(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

static uint64_t random_below(uint64_t n)
{
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        return (seed >> 33) % n;
}

static void spin(uint64_t ns)
{
        uint64_t until = now_ns() + ns;

        while (now_ns() < until)
                ;
}

static void rest(uint64_t ns)
{
        struct timespec t = { (time_t)(ns / (1000 * MS)), (long)(ns % (1000 * MS)) };

        (void)nanosleep(&t, NULL);
}

static pid_t begin(void (*work)(void))
{
        pid_t pid = fork();

        if (pid < 0)
                err(1, "fork");
        made++;
        if (pid)
                return pid;
        work();
        _exit(0);
}

static void wait_all(void)
{
        while (wait(NULL) > 0)
                ;
}

static void spin_on(void)
{
        while (now_ns() < end_ns)
                spin(MS);
}

static void cpu(void)
{
        for (int i = 0; i < 3; i++)
                (void)begin(spin_on);
        wait_all();
}

static void short_life(void)
{
        spin(random_below(3 * MS));
}

/* Lives of 0 to 3 ms, some of them with children of their own, up to four at a time. */
static void forks(void)
{
        int running = 0;

        for (; now_ns() < end_ns; running++) {
                if (running == 4) {
                        (void)wait(NULL);
                        running--;
                }
                (void)random_below(2); /* so that children differ */
                (void)begin(short_life);
        }
        wait_all();
}

static sem_t work;

static void *serve(void *arg)
{
        unsigned short state[3] = { 1, 2, 3 };

        for (;;) {
                (void)sem_wait(&work);
                if (now_ns() >= end_ns)
                        return arg;
                spin((uint64_t)nrand48(state) % (MS / 2));
        }
}

static void *once(void *arg)
{
        spin(MS / 2);
        return arg;
}

/* Sixteen threads that take turns, and others that come and go beside them. */
static void pool(void)
{
        pthread_t threads[16], other;

        (void)sem_init(&work, 0, 0);
        for (int i = 0; i < 16; i++)
                if (pthread_create(&threads[i], NULL, serve, NULL) != 0)
                        errx(1, "no thread");
        while (now_ns() < end_ns) {
                for (int i = 0; i < 8; i++)
                        (void)sem_post(&work);
                if (pthread_create(&other, NULL, once, NULL) != 0)
                        errx(1, "no thread");
                (void)pthread_join(other, NULL);
                rest(MS);
        }
        for (int i = 0; i < 16; i++)
                (void)sem_post(&work);
        for (int i = 0; i < 16; i++)
                (void)pthread_join(threads[i], NULL);
}

static void sleep_and_spin(void)
{
        while (now_ns() < end_ns) {
                rest(5 * MS + random_below(10 * MS));
                spin(MS / 20 + random_below(MS / 4));
        }
}

static void sleepers(void)
{
        for (int i = 0; i < 50; i++) {
                (void)random_below(2);
                (void)begin(sleep_and_spin);
        }
        wait_all();
}

static void mixed(void)
{
        (void)begin(spin_on);
        (void)begin(sleepers);
        (void)begin(pool);
        (void)begin(forks);
        wait_all();
}

static const struct kind {
        const char *name;
        void (*run)(void);
} kinds[] = {
        { "cpu", cpu }, { "forks", forks }, { "pool", pool }, { "sleepers", sleepers }, { "mixed", mixed }
};

/* A child that has used nothing yet goes into the cgroup, so that all it will have used was used there. */
static int run_in(const char *procs, const struct kind *kind)
{
        int go[2], status;
        char c = 0;
        FILE *f;
        pid_t pid;

        if (pipe(go) < 0)
                err(1, "pipe");
        pid = fork();
        if (pid < 0)
                err(1, "fork");
        if (!pid) {
                (void)close(go[1]);
                if (read(go[0], &c, 1) != 1)
                        _exit(1);
                end_ns += now_ns();
                kind->run();
                (void)printf("%lu\n", made + 1);
                return 0;
        }
        f = fopen(procs, "w");
        if (!f || fprintf(f, "%d\n", (int)pid) < 0 || fclose(f) != 0)
                err(1, "cannot move a process into '%s'", procs);
        if (write(go[1], &c, 1) != 1 || waitpid(pid, &status, 0) != pid)
                err(1, "lost the load");
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
        if (argc < 4)
                errx(2, "usage: cpu_load CGROUP.PROCS cpu|forks|pool|sleepers|mixed SECONDS [SEED]");
        seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
        end_ns = (uint64_t)(strtod(argv[3], NULL) * 1e9);
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
                if (!strcmp(argv[2], kinds[i].name))
                        return run_in(argv[1], &kinds[i]);
        errx(2, "no such load: %s", argv[2]);
}
