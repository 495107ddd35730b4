/* A session as pictures: what the screen showed at each step, as files in the computer. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernel/base/clock.h"
#include "kernel/picture.h"
#include "tools/desktop_state.h"

#define FRAMES_MAX 2000u
#define VIDEO_NS   (120 * CLOCK_NS_PER_S)

bool desktop_record_start(struct desktop *d, struct error *err)
{
    struct desktop_recording *r = &d->state->recording;
    struct wait *w = &d->call->wait;
    struct id id = id_make("recording");
    char folder[sizeof r->folder];

    (void)snprintf(folder, sizeof folder, "/workspace/%s", id.text);
    if (!guest_make_dir(computer_guest(d->computer), "/", folder, 0755, true, w, err))
        return error_prefix(err, "make %s", folder);
    pthread_mutex_lock(&d->state->lock);
    r->on = true;
    r->frames = 0;
    memcpy(r->folder, folder, sizeof folder);
    pthread_mutex_unlock(&d->state->lock);
    return desktop_record_frame(d, &d->before, err) &&
           result_printf(d->call->result, err,
                         "Recording: each step's screen goes to %s. Stop with record_stop.",
                         folder);
}

bool desktop_record_frame(struct desktop *d, const struct display_frame *frame, struct error *err)
{
    struct desktop_recording *r = &d->state->recording;
    CLEANUP(buf_fini) struct buf png = BUF_INIT;
    char path[96];
    unsigned number;

    pthread_mutex_lock(&d->state->lock);
    number = r->on && r->frames < FRAMES_MAX ? ++r->frames : 0;
    (void)snprintf(path, sizeof path, "%s/%05u.png", r->folder, number);
    pthread_mutex_unlock(&d->state->lock);
    if (!number)
        return true;
    return picture_png(frame->rgb, frame->width, frame->height, &png, err) &&
           (guest_write_file(computer_guest(d->computer), "/", path, png.data, png.len, 0644,
                             WIRE_WRITE_CREATE, &d->call->wait, err) ||
            error_prefix(err, "record the screen to %s", path));
}

static bool make_video(struct desktop *d, const char *folder, struct error *err)
{
    char from[96], to[96];
    const char *const argv[] = { "ffmpeg",
                                 "-v",
                                 "error",
                                 "-framerate",
                                 "2",
                                 "-i",
                                 from,
                                 "-pix_fmt",
                                 "yuv420p",
                                 "-vf",
                                 "pad=ceil(iw/2)*2:ceil(ih/2)*2",
                                 to,
                                 NULL };
    const struct toolkit_program program = { .argv = argv,
                                             .max = 64u << 10,
                                             .timeout_ns = VIDEO_NS };
    CLEANUP(buf_fini) struct buf said = BUF_INIT;
    int code;

    (void)snprintf(from, sizeof from, "%s/%%05d.png", folder);
    (void)snprintf(to, sizeof to, "%s/video.mp4", folder);
    return toolkit_program(d->call, d->computer, &program, &said, &code, err) &&
           (code == 0 || error_set(err, ERR_IO, "ffmpeg: %s", buf_str(&said)));
}

bool desktop_record_stop(struct desktop *d, struct error *err)
{
    struct desktop_recording *r = &d->state->recording;
    char folder[sizeof r->folder];
    struct error why = ERROR_INIT;
    unsigned frames;
    bool on;

    pthread_mutex_lock(&d->state->lock);
    on = r->on;
    r->on = false;
    frames = r->frames;
    memcpy(folder, r->folder, sizeof folder);
    pthread_mutex_unlock(&d->state->lock);
    if (!on)
        return error_set(err, ERR_INVALID, "nothing is being recorded; begin with record_start");
    if (make_video(d, folder, &why))
        return result_printf(d->call->result, err,
                             "%u pictures in %s, and as a video in video.mp4 there", frames,
                             folder);
    return result_printf(d->call->result, err, "%u pictures in %s; no video: %s", frames, folder,
                         why.code == ERR_NOT_FOUND ? "ffmpeg is not in this computer" : why.text);
}
