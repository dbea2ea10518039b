//! A tool that takes an image, and returns a smaller one with a structured result. The decoded size is limited, because a small file
//! may be a decompression bomb.

use std::{io::Cursor, process::ExitCode};

use garde::Validate;
use image::{ImageFormat, ImageReader, ImageResult, Limits};
use mcp_lambda::{
    Base64, ContentBlock, HandlerError, HttpConfig, InitError, Json, McpService, Server, Tool, ToolContext,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct ShrinkArgs {
    /// A PNG or JPEG of at most 3 MB and 4096 x 4096 pixels.
    #[garde(skip)]
    image: Base64<3_000_000>,
    /// The longer side of the result in pixels; 16 to 512.
    #[garde(range(min = 16, max = 512))]
    max_side: u32,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Size {
    /// In pixels.
    width: u32,
    /// In pixels.
    height: u32,
}

async fn shrink_image(_: ToolContext<()>, args: ShrinkArgs) -> Result<Json<Size>, HandlerError> {
    // Decoding is CPU-bound: on another thread, it does not block concurrent requests.
    let shrunk = spawn_blocking(move || shrink(&args.image, args.max_side)).await?;
    let (png, size) = shrunk.map_err(|error| HandlerError::invalid_input(format!("`image`: {error}")))?;
    Ok(Json(size).with_content([ContentBlock::image(png, "image/png")]))
}

fn shrink(bytes: &[u8], max_side: u32) -> ImageResult<(Vec<u8>, Size)> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(4096);
    limits.max_image_height = Some(4096);
    limits.max_alloc = Some(64 * 1024 * 1024);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits);
    let image = reader.decode()?;
    let side = max_side.min(image.width().max(image.height()));
    let small = image.thumbnail(side, side);
    let mut png = Cursor::new(Vec::new());
    small.write_to(&mut png, ImageFormat::Png)?;
    Ok((png.into_inner(), Size { width: small.width(), height: small.height() }))
}

async fn service(config: HttpConfig) -> Result<McpService, InitError> {
    let tool = Tool::new("shrink_image", shrink_image).description("Makes a small PNG of an image.").read_only();
    McpService::new(Server::new("images", "1.0.0", ()).tool(tool), config)
}

fn main() -> ExitCode {
    mcp_lambda::main(service)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use image::{DynamicImage, ImageFormat, load_from_memory};
    use mcp_testing::{TestCall, TestReply};
    use serde_json::json;

    use super::*;

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    async fn shrunk(image: &[u8], max_side: u32) -> TestReply {
        let arguments = json!({ "image": BASE64_STANDARD.encode(image), "max_side": max_side });
        TestCall::new(Tool::new("shrink_image", shrink_image)).arguments(arguments).await
    }

    fn picture(reply: &TestReply) -> DynamicImage {
        let [ContentBlock::Text(_), ContentBlock::Image(image)] = reply.result().content.as_slice() else {
            panic!("a text and an image: {:?}", reply.result().content)
        };
        assert_eq!(image.mime_type, "image/png");
        load_from_memory(&BASE64_STANDARD.decode(&image.data).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn the_image_is_smaller_and_keeps_its_ratio() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let image = encoded(&DynamicImage::new_rgb8(300, 150), format);

            let reply = shrunk(&image, 100).await;

            assert_eq!(reply.structured(), json!({ "width": 100, "height": 50 }), "{format:?}");
            assert_eq!((picture(&reply).width(), picture(&reply).height()), (100, 50), "{format:?}");
        }
    }

    #[tokio::test]
    async fn a_small_image_is_not_enlarged() {
        let reply = shrunk(&encoded(&DynamicImage::new_rgb8(20, 30), ImageFormat::Png), 512).await;

        assert_eq!(reply.structured(), json!({ "width": 20, "height": 30 }));
    }

    /// The header of a PNG of 4096 x 4096 pixels of 6 bytes, and the beginning of its data.
    const DEEP: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x10\0\0\0\x10\0\x10\x02\0\0\0\x2d\x51\x6f\x03\0\0\0\0IDAT\x35\xaf\x06\x1e";

    #[tokio::test]
    async fn a_decompression_bomb_is_rejected() {
        let wide = encoded(&DynamicImage::new_luma8(4097, 1), ImageFormat::Png);
        let high = encoded(&DynamicImage::new_luma8(1, 4097), ImageFormat::Jpeg);
        for bomb in [&wide, &high, DEEP] {
            let reply = shrunk(bomb, 100).await;

            assert_eq!(reply.result().is_error, Some(true));
            assert!(reply.text().contains("limit"), "{}", reply.text());
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_an_image_is_rejected_by_argument_name() {
        let truncated = encoded(&DynamicImage::new_rgb8(300, 150), ImageFormat::Png);
        for file in [b"GIF89a".as_slice(), b"", &truncated[..60]] {
            let reply = shrunk(file, 100).await;

            assert_eq!(reply.result().is_error, Some(true));
            assert!(reply.text().starts_with("`image`: "), "{}", reply.text());
        }
    }
}
