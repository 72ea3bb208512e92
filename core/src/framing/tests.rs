use super::*;

#[test]
fn plain_framings_emit_no_control_frames() {
    for framing in [Framing::Raw, Framing::U32, Framing::Multiprocessing] {
        let mut encoder = Encoder::new(framing);
        let mut output = [0xee; MAX_CONTROL];
        for control in [Control::Fin, Control::Ping([7; 8]), Control::Close(CloseReason::Shutdown)]
        {
            assert_eq!(encoder.control(control, &mut output), 0);
        }
        assert_eq!(output, [0xee; MAX_CONTROL]);
        assert_eq!(encoder.token(), [0; 8]);
        assert!(!encoder.is_sealed());
        assert_eq!(encoder.max_payload(), u32::MAX);
    }
    assert!(Encoder::new(Framing::Sealed).is_sealed());
}

#[test]
fn overhead_matches_the_layout_of_each_framing() {
    for (framing, overhead) in [
        (Framing::Raw, 0),
        (Framing::U32, 4),
        (Framing::Multiprocessing, 12),
        (Framing::Sealed, 21),
    ] {
        assert_eq!(Encoder::new(framing).overhead(), overhead);
    }
    assert_eq!(MAX_CONTROL, 21 + 8, "the length of a PING or PONG");
}

#[test]
fn sealed_max_frame_is_bounded_by_buffer_and_limit() {
    for (capacity, limit, largest) in [
        (260, 1 << 20, 256),
        (261, 1 << 20, 257),
        (1000, 999, 996),
        (1000, 996, 996),
        (1000, 995, 995),
        (1000, 255, 256),
        (1000, 0, 256),
        (0, 1 << 20, 256),
        (usize::MAX, u64::MAX, u32::MAX),
        (usize::MAX, 1 << 32, u32::MAX),
    ] {
        assert_eq!(sealed_max_frame(capacity, limit), largest, "{capacity}, {limit}");
    }
    assert_eq!(SEALED_RECEIVE_LEN, 260);
}
